//! Kubernetes' own controllers and the scheduler.

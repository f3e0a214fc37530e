//! Informers, work queues, backoff, events: what every controller is made of.

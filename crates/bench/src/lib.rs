//! Load generators that run against any cluster.

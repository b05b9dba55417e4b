//! Errors as HTTP answers, pagination, health and metrics endpoints, shared by the APIs.

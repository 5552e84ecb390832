//! Many trainings for one answer: which settings serve best ([`sweep`]), which learning rate ([`lr_find`]), and what
//! comes out when the images are spread over nodes that share weights alone ([`federated`]).

#![recursion_limit = "256"]
#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod federated;
pub mod lr_find;
pub mod sweep;

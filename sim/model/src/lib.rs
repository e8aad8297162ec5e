//! A modelled network of a hundred thousand nodes.

//! Nodes: virtual ones that simulate a kubelet.

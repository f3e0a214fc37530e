//! The revisioned store: memory and embedded engines behind one trait.

//! Misuse of the kernel's and NDIS's primitives that does not compile: `tests/cases`, each with what the compiler says.

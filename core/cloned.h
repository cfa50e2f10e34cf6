// HYPERATTN_CLONED: the compiler makes a copy of a function in plain loops for each instruction set, of which
// the loader takes the processor's. Copies give the same bits where they fuse no operations
// (-ffp-contract=off), or have integers alone.
#pragma once

#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__) && !defined(__SANITIZE_ADDRESS__)
#define HYPERATTN_CLONED __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
#else
#define HYPERATTN_CLONED
#endif

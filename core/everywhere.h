// Arithmetic that the host and a GPU do alike: sources with it are compiled by both compilers.
#pragma once

#ifdef __CUDACC__
#define HYPERATTN_EVERYWHERE __host__ __device__
#else
#define HYPERATTN_EVERYWHERE
#endif

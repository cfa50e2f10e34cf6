// What the sanitizers must not blame on us. Without them nobody calls these.

/// Memory that two libraries lose by themselves: LLVM's OpenMP when the number of threads changes, HDF5 1.10
/// when it gives up on a damaged file.
extern "C" const char* __lsan_default_suppressions() {  // NOLINT(bugprone-reserved-identifier)
  return "leak:libomp.so\nleak:libhdf5_serial.so\n";
}

/// HDF5 asks malloc for whatever size a damaged file names and copes with the answer that there is not as
/// much. Our own code uses operator new, which still ends the process, or asks whether there is memory first.
extern "C" const char* __asan_default_options() {  // NOLINT(bugprone-reserved-identifier)
  return "allocator_may_return_null=1";
}

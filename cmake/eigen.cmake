# hyperattn_eigen: Eigen as our own sources use it, through core/eigen.h. Not part of the installed interface.
add_library(hyperattn_eigen INTERFACE)
target_link_libraries(hyperattn_eigen INTERFACE Eigen3::Eigen)
target_compile_definitions(hyperattn_eigen INTERFACE
  # Parallel loops are ours alone: Eigen's own threads would make bits depend on their number.
  EIGEN_DONT_PARALLELIZE
  # How Eigen allocates and aligns depends on the instruction set that a source is compiled for, but the names of its
  # inline functions do not. In a program that uses Eigen, too, and is compiled with -march=native, the linker would
  # take one side's functions for the other's: memory aligned by hand would be freed as if it were not.
  Eigen=hyperattn_eigen)

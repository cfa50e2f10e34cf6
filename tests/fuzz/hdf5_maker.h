// Writes HDF5 files that a hostile or careless program could have written: any type, shape, storage,
// attribute and link, chosen by the fuzzer's bytes. The HDF5 library itself writes them, so they are
// well-formed, and what fails on one of them is our reader. (On files that are not well-formed, HDF5 1.10
// fails by itself: see run_hdf5_image.)
#pragma once

#include <hdf5.h>

#include <string>
#include <vector>

#include "tests/fuzz/choices.h"

namespace hyperattn::fuzz {

/// What a dataset should be unless the bytes want it otherwise.
struct Expected {
  std::vector<hsize_t> shape;
  bool integers = false;  ///< else float32
};

/// An HDF5 file in memory.
class Hdf5Maker {
 public:
  Hdf5Maker();
  /// Goes on from the bytes of a file.
  explicit Hdf5Maker(const std::string& image);
  ~Hdf5Maker();
  Hdf5Maker(const Hdf5Maker&) = delete;
  Hdf5Maker& operator=(const Hdf5Maker&) = delete;

  /// Writes a dataset at `path` in place of what is there; groups on the way are made.
  void dataset(const std::string& path, const Expected& expected, Choices& choices);
  /// Writes an attribute in place of what is there, where the object exists.
  void attribute(const std::string& object, const std::string& name, Choices& choices);
  /// Puts a link of any kind, a group or a named type at `path`, in place of what is there.
  void link(const std::string& path, Choices& choices);
  void remove(const std::string& path);
  /// Changes the columns or the values of a table that is there.
  void change_table(const std::string& path, Choices& choices);

  [[nodiscard]] std::string image();

 private:
  hid_t file_ = -1;
};

}  // namespace hyperattn::fuzz

// The readers of untrusted input, each as a function that takes any bytes. It returns where they are accepted
// and where they are refused with an Error, and ends the process where a promise is broken: another
// exception, a refusal that says nothing, something read that is not what was stored. libFuzzer calls these
// with bytes of its own (scripts/fuzz.sh); the test program calls them with the files of tests/fuzz/corpus.
#pragma once

#include <string>
#include <vector>

namespace hyperattn::fuzz {

struct Target {
  const char* name;  ///< also of its folder in the corpus
  void (*run)(const std::string& bytes);
};

/// YAML text; below a line "%%", KEY=VALUE arguments, one a line.
void run_config(const std::string& bytes);
/// An HDF5 file with /inputs and /replay whose types, shapes and values the bytes choose, as `source: file`
/// and `attend` read it.
void run_tensors(const std::string& bytes);
/// The same with /mask.
void run_masks(const std::string& bytes);
/// A good results file, changed in ways that the bytes choose.
void run_results(const std::string& bytes);
/// The bytes of an HDF5 file, whatever it holds.
void run_hdf5_image(const std::string& bytes);
/// The first byte chooses: the bytes of a safetensors file, the text of a model's config.json, a record of a
/// journal.
void run_model_files(const std::string& bytes);

/// All of them.
[[nodiscard]] const std::vector<Target>& targets();

}  // namespace hyperattn::fuzz

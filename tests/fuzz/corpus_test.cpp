// Every input of the corpus, through its target: what a fuzzer once found stays mended.
#include <algorithm>
#include <catch2/catch.hpp>
#include <filesystem>
#include <fstream>
#include <sstream>

#include "tests/fuzz/targets.h"
#include "tests/paths.h"

namespace hyperattn::fuzz {
namespace {

std::string contents(const std::filesystem::path& path) {
  std::ostringstream bytes;
  bytes << std::ifstream(path, std::ios::binary).rdbuf();
  return bytes.str();
}

/// The corpus of one target; fails the test if there is none.
void run_corpus(const std::string& name) {
  const auto target = std::find_if(targets().begin(), targets().end(),
                                   [&](const Target& candidate) { return candidate.name == name; });
  REQUIRE(target != targets().end());
  const std::filesystem::path folder = testing::source_dir() + "/tests/fuzz/corpus/" + name;
  int count = 0;
  for (const auto& entry : std::filesystem::directory_iterator(folder)) {
    INFO("input: " << entry.path());
    target->run(contents(entry.path()));
    ++count;
  }
  INFO(count << " inputs in " << folder);
  CHECK(count > 0);
  target->run("");
}

}  // namespace

TEST_CASE("the corpus breaks no promise of the configuration's reader") {
  run_corpus("config");
}
TEST_CASE("the corpus breaks no promise of the reader of tensors") {
  run_corpus("tensors");
}
TEST_CASE("the corpus breaks no promise of the reader of masks") {
  run_corpus("masks");
}
TEST_CASE("the corpus breaks no promise of the reader of results") {
  run_corpus("results");
}
TEST_CASE("the corpus breaks no promise of the readers of damaged HDF5 files") {
  run_corpus("hdf5_image");
}
TEST_CASE("the corpus breaks no promise of the readers of models and journals") {
  run_corpus("model_files");
}

}  // namespace hyperattn::fuzz

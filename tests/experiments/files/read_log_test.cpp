// Which files were read, and of which contents.
#include "experiments/files/read_log.h"

#include <catch2/catch.hpp>
#include <filesystem>
#include <fstream>

#include "experiments/files/hdf5_file.h"
#include "experiments/files/json_file.h"
#include "experiments/files/output_file.h"
#include "experiments/files/sha256.h"
#include "tests/check_error.h"
#include "tests/scratch_folder.h"

namespace hyperattn {
namespace {

namespace fs = std::filesystem;
using testing::check_error;
using testing::ScratchFolder;

void put(const std::string& path, const std::string& text) {
  std::ofstream(path) << text;
}

std::string image() {
  Hdf5File file = Hdf5File::create_in_memory("made");
  file.write_text("/text", "t");
  return file.image();
}

}  // namespace

TEST_CASE("readers are noted by the youngest log, until it stops", "[read_log]") {
  const ScratchFolder folder;
  put(folder / "a", "A");
  put(folder / "b.json", "{}");
  put(folder / "part", "P");
  put(folder / "c.h5", image());
  (void)read_whole_file(folder / "a");  // nobody listens
  ReadLog log;
  (void)read_whole_file(folder / "a");
  {
    const ReadLog inner;
    (void)read_whole_file(folder / "b.json");
    CHECK(inner.digests() == std::vector<ReadDigest>{{folder / "b.json", sha256("{}")}});
  }
  (void)read_whole_file(folder / "part", false);
  (void)Hdf5File::open(folder / "c.h5");
  note_contents(folder / "whole", sha256("P"));
  log.stop();
  (void)read_whole_file(folder / "b.json");
  const std::vector<ReadDigest> expected = {
      {folder / "a", sha256("A")}, {folder / "c.h5", sha256(image())}, {folder / "whole", sha256("P")}};
  CHECK(log.digests() == expected);
  log.refuse_output(folder / "b.json");
  check_error(Blame::usage, {folder / "part"}, [&] { log.refuse_output(folder / "part"); });
}

TEST_CASE("an output that is a file that was read is refused by identity", "[read_log]") {
  const ScratchFolder folder;
  put(folder / "in", "I");
  fs::create_symlink("in", folder / "link");
  fs::create_hard_link(folder / "in", folder / "hard");
  fs::create_hard_link(folder / "in", folder / "out.journal");
  fs::create_hard_link(folder / "in", folder / "other.partial");
  const ReadLog log;
  (void)read_whole_file(folder / "link");
  for (const char* name : {"in", "link", "hard", "out", "other"}) {
    CAPTURE(name);
    check_error(Blame::usage, {folder / name, folder / "link", "which is read"},
                [&] { log.refuse_output(folder / name); });
  }
  log.refuse_output(folder / "new");
  fs::remove(folder / "in");
  put(folder / "in", "another");  // of the same name, but another file
  log.refuse_output(folder / "in");
}

TEST_CASE("a digest is that of the contents, and follows them", "[read_log]") {
  const ScratchFolder folder;
  std::string large;
  for (int i = 0; i < 3'000'000; ++i) large += static_cast<char>(i * 31 + i / 251);
  put(folder / "large", large);
  CHECK(file_digest(folder / "large") == sha256(large));
  put(folder / "empty", "");
  CHECK(file_digest(folder / "empty") == sha256(""));
  put(folder / "a", "one");
  const std::vector<ReadDigest> digests = {{folder / "a", file_digest(folder / "a")},
                                           {folder.path(), "of a folder"}};
  CHECK(changed_file(digests).empty());
  put(folder / "new", "two");
  fs::rename(folder / "new", folder / "a");
  CHECK(changed_file(digests) == folder / "a");
  CHECK(file_digest(folder / "a") == sha256("two"));
  fs::remove(folder / "a");
  CHECK(changed_file(digests) == folder / "a");
  check_error(Blame::input, {folder / "a"}, [&] { (void)file_digest(folder / "a"); });
}

TEST_CASE("lists of digests compare where both have a path", "[read_log]") {
  const std::vector<ReadDigest> a = {{"x", "1"}, {"y", "2"}};
  CHECK(differing_contents(a, {{"y", "2"}, {"z", "3"}}).empty());
  CHECK(differing_contents(a, {{"y", "3"}}) == "y");
  CHECK(differing_contents({}, a).empty());
  CHECK(all_contents(a, {{"y", "2"}, {"a", "0"}}) ==
        std::vector<ReadDigest>{{"a", "0"}, {"x", "1"}, {"y", "2"}});
}

}  // namespace hyperattn

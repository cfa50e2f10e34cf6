// Texts and files of ids.
#include "experiments/language_model/text.h"

#include <sys/stat.h>

#include <catch2/catch.hpp>
#include <filesystem>

#include "tests/experiments/language_model/fixture.h"

using namespace hyperattn;
using namespace hyperattn::testing;
using Catch::Contains;

TEST_CASE("language model text: a folder is its files, then its subfolders, joined by zero bytes") {
  const ScratchFolder folder;
  std::filesystem::create_directories(folder / "a/c");
  write_file(folder / "b", "B");
  write_file(folder / "z", "Z");
  write_file(folder / "a/x", "X");
  write_file(folder / "a/c/y", "Y\xff");
  CHECK(read_text_bytes(folder.path()) == std::string("B\0Z\0X\0Y\xff", 8));
  const TokenText text = byte_tokens(folder.path());
  CHECK(text.ids == std::vector<int32_t>{'B', 0, 'Z', 0, 'X', 0, 'Y', 255});
  CHECK(text.bytes);
  CHECK(text.window(1, 3) == text.ids.data() + 3);
  CHECK_THAT(input_error([&] { (void)text.window(2, 3); }),
             Contains("window 2 of 3 tokens needs 10 tokens, but it has 8"));
}

TEST_CASE("language model text: links are followed, and folders that lie in themselves refused") {
  const ScratchFolder folder;
  std::filesystem::create_directories(folder / "text/a/b");
  write_file(folder / "text/a/b/x", "X");
  write_file(folder / "elsewhere", "E");
  std::filesystem::create_symlink("../elsewhere", folder / "text/e");
  std::filesystem::create_symlink("a", folder / "text/twice");  // no loop: a folder that is met twice
  CHECK(read_text_bytes(folder / "text") == std::string("E\0X\0X", 5));
  const auto refusal = [&](const std::string& target, const std::string& link) {
    std::filesystem::create_symlink(target, folder / link);
    const std::string message = input_error([&] { (void)read_text_bytes(folder / "text"); });
    std::filesystem::remove(folder / link);
    return message;
  };
  CHECK_THAT(refusal(".", "text/self"), Contains("text/self'") && Contains("leads back to"));
  CHECK_THAT(refusal("..", "text/a/b/up"), Contains("a/b/up'") && Contains("text/a'"));
  CHECK_THAT(refusal("loop", "text/loop"), Contains("text/loop'") && Contains("symbolic links"));
  CHECK_THAT(refusal("absent", "text/dangling"), Contains("text/dangling'"));
  REQUIRE(mkfifo((folder / "text/fifo").c_str(), 0600) == 0);  // reading it would wait for ever
  CHECK_THAT(input_error([&] { (void)read_text_bytes(folder / "text"); }),
             Contains("neither a file nor a folder"));
}

TEST_CASE("language model text: what cannot be tokens is refused, with its place") {
  const ScratchFolder folder;
  const auto refusal = [&](const std::string& ids) {
    write_file(folder / "ids", ids);
    return input_error([&] { (void)read_token_file(folder / "ids", 37); });
  };
  CHECK(refusal(" 1\t36\n0") == "no error");
  CHECK_THAT(refusal("1 2\n3 37"), Contains("line 2") && Contains("'37'") && Contains("between 0 and 36"));
  CHECK_THAT(refusal("1 -1"), Contains("'-1'") && Contains("between 0 and 36"));
  CHECK_THAT(refusal("1 2.5"), Contains("'2.5'") && Contains("decimal"));
  CHECK_THAT(refusal("1 99999999999999999999"), Contains("decimal"));
  CHECK_THAT(refusal("\n"), Contains("holds no ids"));
  CHECK_THAT(input_error([&] { (void)byte_tokens(folder / "absent"); }), Contains("does not exist"));
  write_file(folder / "empty", "");
  CHECK_THAT(input_error([&] { (void)byte_tokens(folder / "empty"); }), Contains("empty"));
}

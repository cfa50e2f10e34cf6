// Where outputs go, and what must survive that.
#include "experiments/files/output_file.h"

#include <fcntl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <catch2/catch.hpp>
#include <filesystem>
#include <fstream>
#include <sstream>

#include "experiments/files/journal.h"
#include "tests/check_error.h"
#include "tests/scratch_folder.h"

namespace hyperattn {
namespace {

namespace fs = std::filesystem;
using testing::check_error;
using testing::ScratchFolder;

std::string contents(const std::string& path) {
  std::ostringstream text;
  text << std::ifstream(path).rdbuf();
  return text.str();
}

void put(const std::string& path, const std::string& text) {
  std::ofstream(path) << text;
}

unsigned mode_of(const std::string& path) {
  struct stat status {};
  REQUIRE(::lstat(path.c_str(), &status) == 0);
  return status.st_mode & 07777U;
}

size_t files_in(const std::string& folder) {
  return static_cast<size_t>(std::distance(fs::directory_iterator(folder), fs::directory_iterator()));
}

}  // namespace

TEST_CASE("an output is written where its links lead, and the links stay", "[output]") {
  const ScratchFolder folder;
  fs::create_directories(folder / "else/where");
  put(folder / "else/target", "old");
  fs::create_symlink("else/target", folder / "link");
  fs::create_symlink("link", folder / "link_to_link");
  fs::create_symlink("else/where/new", folder / "dangling");
  fs::create_symlink(folder / "else/absolute", folder / "absolute");
  fs::create_directory_symlink("else", folder / "by_folder");
  CHECK(output_place(folder / "plain") == folder / "plain");
  for (const auto& [name, target] : {std::pair{"link", "else/target"},
                                     {"link_to_link", "else/target"},
                                     {"dangling", "else/where/new"},
                                     {"absolute", "else/absolute"},
                                     {"by_folder/third", "else/third"}}) {
    CAPTURE(name);
    const std::string text = std::string("written by ") + name;
    write_file_durably(folder / name, text);
    CHECK(contents(folder / target) == text);
    CHECK(fs::is_regular_file(fs::symlink_status(folder / target)));
  }
  for (const char* name : {"link", "link_to_link", "dangling", "absolute"})
    CHECK(fs::is_symlink(fs::symlink_status(folder / name)));
  CHECK(files_in(folder / "else") == 4);  // target, where, absolute, third: nothing left over
}

TEST_CASE("what is no regular file is refused, and left as it is", "[output]") {
  const ScratchFolder folder;
  fs::create_directory(folder / "folder");
  REQUIRE(::mkfifo((folder / "pipe").c_str(), 0600) == 0);
  fs::create_symlink("pipe", folder / "link_to_pipe");
  fs::create_symlink("loop_b", folder / "loop_a");
  fs::create_symlink("loop_a", folder / "loop_b");
  fs::create_symlink("folder", folder / "link_to_folder");
  const int socket = ::socket(AF_UNIX, SOCK_STREAM, 0);
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  (folder / "socket").copy(address.sun_path, sizeof address.sun_path - 1);
  REQUIRE(::bind(socket, reinterpret_cast<sockaddr*>(&address), sizeof address) == 0);
  const std::vector<std::pair<std::string, std::string>> refusals = {
      {folder / "folder", "folder"},
      {folder / "pipe", "pipe"},
      {folder / "link_to_pipe", "pipe"},
      {folder / "loop_a", "loop of symbolic links"},
      {folder / "link_to_folder", "folder"},
      {folder / "socket", "socket"},
      {"/dev/null", "device"},
      {"/dev/full", "device"}};
  for (const auto& [path, word] : refusals) {
    CAPTURE(path);
    const fs::file_type before = fs::symlink_status(path).type();
    check_error(Blame::usage, {path, word}, [&, p = path] { (void)output_place(p); });
    check_error(Blame::usage, {path, word}, [&, p = path] { refuse_existing(p, true, "no"); });
    check_error(Blame::usage, {path, word}, [&, p = path] { write_file_durably(p, "text"); });
    CHECK(fs::symlink_status(path).type() == before);
  }
  ::close(socket);
  CHECK(files_in(folder.path()) == 7);
}

TEST_CASE("the file that standard output goes to is no output", "[output]") {
  const ScratchFolder folder;
  const int before = ::dup(STDOUT_FILENO);
  const int file = ::open((folder / "out").c_str(), O_RDWR | O_CREAT, 0600);
  REQUIRE(::dup2(file, STDOUT_FILENO) == STDOUT_FILENO);
  std::string direct;
  std::string by_device;
  try {
    (void)output_place(folder / "out");
  } catch (const Error& error) {
    direct = error.what();
  }
  try {
    (void)output_place("/dev/stdout");
  } catch (const Error& error) {
    by_device = error.what();
  }
  REQUIRE(::dup2(before, STDOUT_FILENO) == STDOUT_FILENO);
  ::close(before);
  ::close(file);
  CHECK_THAT(direct, Catch::Contains("standard output"));
  CHECK_THAT(by_device, Catch::Contains("standard output"));
}

TEST_CASE("a replaced file keeps its permissions, and its journal has them", "[output]") {
  const ScratchFolder folder;
  for (const unsigned mode : {0600U, 0640U, 0664U, 0755U}) {
    put(folder / "out", "old");
    REQUIRE(::chmod((folder / "out").c_str(), mode) == 0);
    write_file_durably(folder / "out", "new");
    CHECK(contents(folder / "out") == "new");
    CHECK(mode_of(folder / "out") == mode);
    Journal journal(journal_path(folder / "out"), folder / "out");
    const mode_t mask = ::umask(0);
    ::umask(mask);
    CHECK(mode_of(journal_path(folder / "out")) == (mode & 0777U & ~mask));
    journal.remove();
  }
  OutputFile file(folder / "out");  // never more open than the old one, from the first moment
  CHECK(mode_of(file.temporary_path()) == 0755);
}

TEST_CASE("an output that is not committed leaves what was there, and nothing else", "[output]") {
  const ScratchFolder folder;
  put(folder / "out", "old");
  {
    OutputFile file(folder / "out");
    file.write("half");
  }
  CHECK(contents(folder / "out") == "old");
  CHECK(files_in(folder.path()) == 1);
  check_error(Blame::environment, {"none/out"}, [&] { OutputFile file(folder / "none/out"); });
  check_error(Blame::environment, {"out/inside"}, [&] { OutputFile file(folder / "out/inside"); });
}

TEST_CASE("what lies under the temporary name is not written into", "[output]") {
  const ScratchFolder folder;
  put(folder / "precious", "precious");
  fs::create_symlink("precious", folder / "out.partial");
  check_error(Blame::environment, {"out.partial", "in the way"},
              [&] { write_file_durably(folder / "out", "new"); });
  CHECK(contents(folder / "precious") == "precious");
  fs::remove(folder / "out.partial");
  fs::create_hard_link(folder / "precious",
                       folder / "out.partial");  // as a process that was killed might leave it
  write_file_durably(folder / "out", "new");
  CHECK(contents(folder / "precious") == "precious");
  CHECK(contents(folder / "out") == "new");
}

TEST_CASE("a file that is no journal is neither cut off nor waited for", "[output]") {
  const ScratchFolder folder;
  for (const char* text : {"a poem", "a poem\n", "a poem of\nmore lines\n", "0123456789abcdef"}) {
    put(folder / "journal", text);
    check_error(Blame::input, {"journal"}, [&] { Journal journal(folder / "journal"); });
    CHECK(contents(folder / "journal") == text);
  }
  REQUIRE(::mkfifo((folder / "pipe").c_str(), 0600) == 0);
  check_error(Blame::usage, {"pipe", "no regular file"}, [&] { Journal journal(folder / "pipe"); });
  check_error(Blame::usage, {"pipe", "no regular file"}, [&] { (void)read_journal(folder / "pipe"); });
}

TEST_CASE("two writers of one journal exclude each other", "[output]") {
  const ScratchFolder folder;
  const Journal journal(folder / "journal");
  CHECK(journal.lock_problem().empty());
  check_error(Blame::environment, {"in use"}, [&] { Journal second(folder / "journal"); });
}

}  // namespace hyperattn

#include "experiments/files/output_file.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <filesystem>

#include "core/error.h"

namespace hyperattn {
namespace {

[[noreturn]] void fail_with_errno(const std::string& what, const std::string& path) {
  fail_environment(what + " '" + path + "': " + std::strerror(errno));
}

/// Makes the file's bytes, or a rename in the folder, survive a power failure.
void sync(const std::string& path, int flags) {
  const int descriptor = open(path.c_str(), flags);
  if (descriptor < 0) return;
  const bool failed = fsync(descriptor) != 0 && errno != EINVAL;
  close(descriptor);
  if (failed) fail_with_errno("cannot write", path);
}

}  // namespace

void refuse_existing(const std::string& path, bool force, const std::string& advice) {
  std::error_code ignored;
  if (!force && std::filesystem::exists(path, ignored))
    fail_usage("output '" + path + "' exists already; " + advice);
}

OutputFile::OutputFile(std::string path) : path_(std::move(path)), temporary_(path_ + ".partial") {
  if (std::filesystem::is_directory(path_)) fail_environment("cannot write '" + path_ + "': it is a folder");
  const int descriptor = open(temporary_.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0666);
  if (descriptor < 0) fail_with_errno("cannot write", path_);
  close(descriptor);
}

OutputFile::~OutputFile() {
  if (!temporary_.empty()) unlink(temporary_.c_str());
}

void OutputFile::commit() {
  sync(temporary_, O_WRONLY);
  if (std::rename(temporary_.c_str(), path_.c_str()) != 0) fail_with_errno("cannot write", path_);
  temporary_.clear();
  const std::string folder = std::filesystem::path(path_).parent_path().string();
  sync(folder.empty() ? "." : folder, O_RDONLY | O_DIRECTORY);
}

}  // namespace hyperattn

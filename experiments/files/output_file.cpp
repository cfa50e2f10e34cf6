#include "experiments/files/output_file.h"

#include <fcntl.h>
#include <fmt/core.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <utility>

#include "core/error.h"
#include "experiments/files/descriptor.h"

namespace hyperattn {
namespace {

namespace fs = std::filesystem;

constexpr int kMostLinks = 40;  // as many as Linux follows

[[noreturn]] void refuse(const std::string& path, const std::string& why) {
  fail_usage(fmt::format("the output '{}' {}; name another", path, why));
}

const char* kind_of(mode_t mode) {
  if (S_ISDIR(mode)) return "is a folder, not a regular file";
  if (S_ISFIFO(mode)) return "is a named pipe, not a regular file";
  if (S_ISSOCK(mode)) return "is a socket, not a regular file";
  return "is a device, not a regular file";
}

bool same_file(const struct stat& a, const struct stat& b) {
  return a.st_dev == b.st_dev && a.st_ino == b.st_ino;
}

/// Text printed there would be lost with the file that is replaced.
void refuse_standard_stream(const std::string& path, const struct stat& there) {
  for (const int descriptor : {STDOUT_FILENO, STDERR_FILENO}) {
    struct stat stream {};
    if (::fstat(descriptor, &stream) == 0 && same_file(stream, there))
      refuse(path, fmt::format("is the file that standard {} goes to",
                               descriptor == STDOUT_FILENO ? "output" : "error"));
  }
}

/// Where a chain of symbolic links ends, which need not exist.
std::string end_of_links(const std::string& path) {
  fs::path place = path;
  struct stat status {};
  for (int links = 0; ::lstat(place.c_str(), &status) == 0 && S_ISLNK(status.st_mode); ++links) {
    if (links == kMostLinks) refuse(path, "is a loop of symbolic links");
    std::error_code error;
    const fs::path target = fs::read_symlink(place, error);
    if (error) fail_writing(path, error.message());
    place = target.is_absolute() ? target : place.parent_path() / target;
  }
  return place.string();
}

/// Gives the new file the owner and the permissions of the one that it replaces.
void copy_permissions(int descriptor, const struct stat& from, const std::string& path) {
  struct stat made {};
  if (::fstat(descriptor, &made) != 0) fail_writing(path, std::strerror(errno));
  const bool other_owner = made.st_uid != from.st_uid || made.st_gid != from.st_gid;
  // Only root may give a file away; for others it becomes theirs.
  if (other_owner && ::fchown(descriptor, from.st_uid, from.st_gid) != 0) errno = 0;
  // Asked only where there is a difference: a file system without permissions refuses, and has none.
  const bool other_mode = ((made.st_mode ^ from.st_mode) & 07777U) != 0;
  if (other_mode && ::fchmod(descriptor, from.st_mode & 07777U) != 0)
    fail_writing(path, std::strerror(errno));
}

/// What an earlier process left there is ours to remove, if it is a file.
void remove_leftover(const std::string& temporary, const std::string& path) {
  struct stat status {};
  if (::lstat(temporary.c_str(), &status) != 0) return;
  if (!S_ISREG(status.st_mode))
    fail_environment(fmt::format(
        "'{}' can't be written: '{}', under which it is written first, is in the way and no regular file",
        path, temporary));
  if (::unlink(temporary.c_str()) != 0) fail_writing(temporary, std::strerror(errno));
}

}  // namespace

void make_parent_folder(const std::string& path) {
  const fs::path parent = fs::path(path).parent_path();
  if (parent.empty()) return;
  std::error_code error;
  fs::create_directories(parent, error);
  if (error && !fs::is_directory(parent))
    fail_environment(fmt::format("the folder '{}' can't be made: {}", parent.string(), error.message()));
}

void sync_folder_of(const std::string& path) {
  const fs::path parent = fs::path(path).parent_path();
  const std::string folder = parent.empty() ? "." : parent.string();
  const Descriptor descriptor(folder, O_RDONLY | O_DIRECTORY);
  // Some file systems can't sync a folder (EINVAL); there renaming is as durable as it gets.
  if (::fsync(descriptor.get()) != 0 && errno != EINVAL) fail_writing(folder, std::strerror(errno));
}

std::string output_place(const std::string& path) {
  struct stat there {};
  const bool exists = ::stat(path.c_str(), &there) == 0;
  if (!exists && errno == ELOOP) refuse(path, "is a loop of symbolic links");
  if (!exists && errno != ENOENT) fail_writing(path, std::strerror(errno));
  if (exists && !S_ISREG(there.st_mode)) refuse(path, kind_of(there.st_mode));
  if (exists) refuse_standard_stream(path, there);
  std::string place = end_of_links(path);
  struct stat found {};
  // Links below /proc lead to files that may have no path any more.
  if (exists && (::stat(place.c_str(), &found) != 0 || !same_file(there, found)))
    refuse(path, "leads to a file that has no path of its own");
  return place;
}

void refuse_existing(const std::string& path, bool force, const std::string& advice) {
  const std::string place = output_place(path);
  if (!force && ::access(place.c_str(), F_OK) == 0)
    fail_usage(fmt::format("the output '{}' exists; {}", path, advice));
}

OutputFile::OutputFile(const std::string& path)
    : path_(path), place_(output_place(path)), temporary_(partial_path(place_)) {
  struct stat old {};
  const bool replaces = ::stat(place_.c_str(), &old) == 0;
  if (replaces && ::access(place_.c_str(), W_OK) != 0) fail_writing(path, std::strerror(errno));
  remove_leftover(temporary_, path);
  try {
    // Closed to others until it has the permissions of the old one.
    Descriptor file(temporary_, O_WRONLY | O_CREAT | O_EXCL, replaces ? 0600 : 0666, path);
    if (replaces) copy_permissions(file.get(), old, path);
    file.close();
  } catch (const Error&) {
    ::unlink(temporary_.c_str());
    throw;
  }
}

OutputFile::~OutputFile() {
  if (!temporary_.empty()) ::unlink(temporary_.c_str());
}

void OutputFile::write(std::string_view bytes) {
  Descriptor file(temporary_, O_WRONLY | O_TRUNC, 0, path_);
  if (!write_all(file.get(), bytes.data(), bytes.size())) fail_writing(path_, std::strerror(errno));
  file.close();
}

void OutputFile::commit() {
  {
    Descriptor file(temporary_, O_WRONLY, 0, path_);
    if (::fsync(file.get()) != 0 && errno != EINVAL) fail_writing(path_, std::strerror(errno));
    file.close();
  }
  if (std::rename(temporary_.c_str(), place_.c_str()) != 0) fail_writing(path_, std::strerror(errno));
  temporary_.clear();
  sync_folder_of(place_);
}

void write_file_durably(const std::string& path, std::string_view bytes) {
  OutputFile file(path);
  file.write(bytes);
  file.commit();
}

}  // namespace hyperattn

#include "experiments/files/read_log.h"

#include <fmt/core.h>
#include <sys/stat.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <fstream>
#include <tuple>

#include "core/error.h"
#include "experiments/files/output_file.h"
#include "experiments/files/sha256.h"

namespace hyperattn {
namespace {

ReadLog* youngest = nullptr;

/// What tells, without reading it, that a file is the one it was.
struct Stamp {
  uint64_t device = 0;
  uint64_t inode = 0;
  int64_t bytes = 0;
  int64_t seconds = 0;
  int64_t nanoseconds = 0;

  auto operator<=>(const Stamp&) const = default;
};

/// False where there is no such file.
bool read_stamp(const std::string& path, Stamp& stamp) {
  struct stat status {};
  if (::stat(path.c_str(), &status) != 0) return false;
  stamp = {status.st_dev, status.st_ino, status.st_size, status.st_mtim.tv_sec, status.st_mtim.tv_nsec};
  return true;
}

/// Digests of this process, and the stamps that files had when they were taken.
std::map<Stamp, std::string>& known_digests() {
  static std::map<Stamp, std::string> digests;
  return digests;
}

std::vector<ReadDigest> in_order(const std::map<std::string, std::string>& digests) {
  std::vector<ReadDigest> list;
  for (const auto& [path, digest] : digests) list.push_back({path, digest});
  return list;
}

std::string digest_of(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  std::vector<char> block(size_t{1} << 20);
  Sha256 digest;
  while (file) {
    file.read(block.data(), static_cast<std::streamsize>(block.size()));
    digest.add({block.data(), static_cast<size_t>(file.gcount())});
  }
  if (!file.eof()) fail_input(fmt::format("'{}' can't be read to its end: {}", path, std::strerror(errno)));
  return digest.finish();
}

}  // namespace

ReadLog::ReadLog() : before_(youngest) {
  youngest = this;
}

ReadLog::~ReadLog() {
  youngest = before_;
}

void ReadLog::stop() {
  notes_ = false;
}

void note_read(const std::string& path, bool has_digest) {
  Stamp stamp;
  if (youngest == nullptr || !youngest->notes_ || !read_stamp(path, stamp)) return;
  const auto same = [&](const ReadLog::Entry& entry) {
    return entry.path == path && entry.device == stamp.device && entry.inode == stamp.inode;
  };
  auto& files = youngest->files_;
  const auto found = std::find_if(files.begin(), files.end(), same);
  if (found == files.end())
    files.push_back({stamp.device, stamp.inode, path, has_digest});
  else
    found->has_digest = found->has_digest || has_digest;
}

void note_contents(const std::string& path, const std::string& sha256) {
  if (youngest != nullptr && youngest->notes_) youngest->contents_[path] = sha256;
}

void ReadLog::refuse_output(const std::string& output) const {
  const std::string place = output_place(output);
  for (const std::string& name : {place, partial_path(place), journal_path(place)}) {
    Stamp stamp;
    if (!read_stamp(name, stamp)) continue;
    for (const Entry& entry : files_)
      if (entry.device == stamp.device && entry.inode == stamp.inode)
        fail_usage(fmt::format("the output '{}' would destroy '{}', which is read{}; name another output",
                               output, entry.path,
                               name == place ? "" : fmt::format(", because '{}' is written with it", name)));
  }
}

std::vector<ReadDigest> ReadLog::digests() const {
  std::map<std::string, std::string> all = contents_;
  for (const Entry& entry : files_)
    if (entry.has_digest) all[entry.path] = file_digest(entry.path);
  return in_order(all);
}

std::string file_digest(const std::string& path) {
  Stamp stamp;
  if (!read_stamp(path, stamp)) fail_input(fmt::format("'{}' can't be read: {}", path, std::strerror(errno)));
  const auto known = known_digests().find(stamp);
  if (known != known_digests().end()) return known->second;
  std::string digest = digest_of(path);
  Stamp after;
  if (read_stamp(path, after) && after == stamp) known_digests()[stamp] = digest;
  return digest;
}

std::string changed_file(const std::vector<ReadDigest>& digests) {
  for (const ReadDigest& one : digests) {
    struct stat status {};
    const bool is_folder = ::stat(one.path.c_str(), &status) == 0 && S_ISDIR(status.st_mode);
    Stamp stamp;
    if (is_folder) continue;
    if (!read_stamp(one.path, stamp)) return one.path;
    const auto known = known_digests().find(stamp);
    if (known == known_digests().end() || known->second != one.sha256) return one.path;
  }
  return {};
}

std::vector<ReadDigest> all_contents(const std::vector<ReadDigest>& a, const std::vector<ReadDigest>& b) {
  std::map<std::string, std::string> all;
  for (const auto* list : {&a, &b})
    for (const ReadDigest& one : *list) all[one.path] = one.sha256;
  return in_order(all);
}

std::string differing_contents(const std::vector<ReadDigest>& a, const std::vector<ReadDigest>& b) {
  std::map<std::string, std::string> of_a;
  for (const ReadDigest& one : a) of_a[one.path] = one.sha256;
  for (const ReadDigest& one : b) {
    const auto found = of_a.find(one.path);
    if (found != of_a.end() && found->second != one.sha256) return one.path;
  }
  return {};
}

}  // namespace hyperattn

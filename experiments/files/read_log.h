// Which files a command has read: so that its output is none of them, and so that results know of which
// contents they were made. The readers of this library note every file that they open.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

namespace hyperattn {

/// The contents of something that was read.
struct ReadDigest {
  std::string path;    ///< as the configuration or the folder names it
  std::string sha256;  ///< of its bytes

  bool operator==(const ReadDigest&) const = default;
};

/// What was read while it lives, or until `stop`. One at a time notes: the youngest.
class ReadLog {
 public:
  ReadLog();
  ~ReadLog();
  ReadLog(const ReadLog&) = delete;
  ReadLog& operator=(const ReadLog&) = delete;

  /// Notes nothing more.
  void stop();
  /// Error(usage) where writing this output would destroy a file that was read, by whatever name or link: the
  /// output itself, or what lies under the names of its journal and its temporary file.
  void refuse_output(const std::string& output) const;
  /// Of all that was read, by path. Reads whole files, each contents once in a process.
  [[nodiscard]] std::vector<ReadDigest> digests() const;

 private:
  friend void note_read(const std::string& path, bool has_digest);
  friend void note_contents(const std::string& path, const std::string& sha256);

  struct Entry {
    uint64_t device = 0;
    uint64_t inode = 0;
    std::string path;
    bool has_digest = true;
  };
  std::vector<Entry> files_;
  std::map<std::string, std::string> contents_;  ///< path → SHA-256, of what is no single file
  ReadLog* before_ = nullptr;
  bool notes_ = true;
};

/// For readers: this file is about to be read. Without a digest where its contents have one as a part of
/// something.
void note_read(const std::string& path, bool has_digest = true);
/// For readers: what was read as `path`, which is no single file, has this SHA-256.
void note_contents(const std::string& path, const std::string& sha256);

/// The SHA-256 of a regular file, read in pieces; kept for as long as size, time and identity of the file
/// stay. Error(input) where it can't be read.
[[nodiscard]] std::string file_digest(const std::string& path);
/// The first of these files that is another one, or was written to, since its digest was taken; empty if
/// none.
[[nodiscard]] std::string changed_file(const std::vector<ReadDigest>& digests);

/// The path of the first thing whose contents differ between two lists; empty if there is none.
[[nodiscard]] std::string differing_contents(const std::vector<ReadDigest>& a,
                                             const std::vector<ReadDigest>& b);

/// Both lists as one, by path.
[[nodiscard]] std::vector<ReadDigest> all_contents(const std::vector<ReadDigest>& a,
                                                   const std::vector<ReadDigest>& b);

}  // namespace hyperattn

// A file that survives a kill and a power loss because it is appended record by record, each synced to the
// disk.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace hyperattn {

/// The whole records of a journal; none where there is no such file. Changes nothing and takes no lock, so
/// that the journal of a running process can be read. Error(input) as for `Journal`.
[[nodiscard]] std::vector<std::string> read_journal(const std::string& path);

/// An append-only file of text records, each on a line with its checksum, locked against other processes for
/// as long as this object lives.
class Journal {
 public:
  /// Opens or creates it (with the permissions of the file `like`, where there is one), locks it, reads its
  /// records and cuts off a torn last one. Error(input) if an earlier record is damaged, or it is no
  /// journal; Error(environment) if another process holds the lock.
  explicit Journal(const std::string& path, const std::string& like = {});
  Journal(const Journal&) = delete;
  Journal& operator=(const Journal&) = delete;
  ~Journal();

  /// Whether the file was there before.
  [[nodiscard]] bool existed() const { return existed_; }
  /// Why it could not be locked: the system's words on a file system without locks; else empty.
  [[nodiscard]] const std::string& lock_problem() const { return lock_problem_; }
  /// What was found when it was opened.
  [[nodiscard]] const std::vector<std::string>& records() const { return records_; }

  /// Adds a record (without line breaks); when this returns, it is on the disk. After a failure the journal
  /// holds what it held before.
  void append(const std::string& record);
  /// Removes all records.
  void clear();
  /// Removes the file itself; nothing can be appended afterwards.
  void remove();

 private:
  void open_and_lock(const std::string& like);
  void read_records();
  [[nodiscard]] bool is_in_place() const;

  std::string path_;
  int descriptor_ = -1;
  bool existed_ = false;
  std::string lock_problem_;
  int64_t size_ = 0;  ///< bytes of whole records
  std::vector<std::string> records_;
};

}  // namespace hyperattn

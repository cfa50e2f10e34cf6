// Files that survive a kill and a power loss: synced to the disk, renamed whole, or appended record by
// record. All failures are Error(environment) with the path and the system's reason.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace hyperattn {

/// Makes the folder that `path` lies in, if it is missing.
void make_parent_folder(const std::string& path);

/// Writes `bytes` beside `path` (PATH.partial), syncs, renames over `path` and syncs the folder: whatever
/// happens, `path` is the old file or the new one, whole.
void write_file_durably(const std::string& path, const std::string& bytes);

/// The whole records of a journal; none where there is no such file. Changes nothing and takes no lock, so
/// that the journal of a running process can be read. Error(input) as for `Journal`.
[[nodiscard]] std::vector<std::string> read_journal(const std::string& path);

/// An append-only file of text records, each on a line with its checksum, locked against other processes for
/// as long as this object lives.
class Journal {
 public:
  /// Opens or creates it, locks it, reads its records and cuts off a torn last one. Error(input) if an
  /// earlier record is damaged; Error(environment) if another process holds the lock.
  explicit Journal(const std::string& path);
  Journal(const Journal&) = delete;
  Journal& operator=(const Journal&) = delete;
  ~Journal();

  /// Whether the file was there before.
  [[nodiscard]] bool existed() const { return existed_; }
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
  void open_and_lock();
  void read_records();
  [[nodiscard]] bool is_in_place() const;

  std::string path_;
  int descriptor_ = -1;
  bool existed_ = false;
  int64_t size_ = 0;  ///< bytes of whole records
  std::vector<std::string> records_;
};

}  // namespace hyperattn

// Opening, creating and closing HDF5 files on disk and in memory; the small types of the interface.
#include "experiments/files/hdf5_file.h"

#include <fcntl.h>
#include <fmt/core.h>
#include <sys/file.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <utility>

#include "core/error.h"
#include "core/text.h"
#include "experiments/files/hdf5_internal.h"
#include "experiments/files/read_log.h"

namespace hyperattn {

using namespace hdf5;

int64_t DatasetInfo::size() const {
  return count_elements(shape);
}

std::string shape_text(const std::vector<int64_t>& shape) {
  return "(" + join_of(shape, [](int64_t extent) { return std::to_string(extent); }) +
         (shape.size() == 1 ? ",)" : ")");
}

int64_t TableColumn::rows() const {
  return std::visit([](const auto& v) { return static_cast<int64_t>(v.size()); }, values);
}

const TableColumn* Table::find(const std::string& name) const {
  for (const TableColumn& column : columns)
    if (column.name == name) return &column;
  return nullptr;
}

Hdf5File::Hdf5File(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Hdf5File::Hdf5File(Hdf5File&&) noexcept = default;
Hdf5File& Hdf5File::operator=(Hdf5File&&) noexcept = default;
Hdf5File::~Hdf5File() = default;

const std::string& Hdf5File::path() const {
  return impl_->path;
}

namespace {

Id access_properties() {
  Id properties(H5Pcreate(H5P_FILE_ACCESS), H5Pclose);
  H5Pset_fclose_degree(properties.get(), H5F_CLOSE_STRONG);
  return properties;
}

/// Whether the file system of this file knows locks: not all network file systems do. The library by itself
/// goes on only where the system lacks the call.
bool has_locks(const std::string& path) {
  const int descriptor = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (descriptor < 0) return true;  // whatever is wrong, the library says it
  const bool works = ::flock(descriptor, LOCK_SH | LOCK_NB) == 0 || errno == EWOULDBLOCK;
  ::close(descriptor);
  return works;
}

/// For a file on disk, which is there.
Id disk_properties(const std::string& path) {
  Id properties = access_properties();
  H5Pset_file_locking(properties.get(), has_locks(path) ? 1 : 0, 1);
  return properties;
}

Id memory_properties() {
  Id properties = access_properties();
  H5Pset_fapl_core(properties.get(), kMiB, 0);
  return properties;
}

void check_readable(const std::string& path) {
  std::error_code error;
  const auto status = std::filesystem::status(path, error);
  if (!std::filesystem::exists(status)) {
    const bool missing = !error || error == std::errc::no_such_file_or_directory;
    fail_input(fmt::format("'{}' {}", path,
                           missing ? "does not exist" : "can't be opened for reading: " + error.message()));
  }
  if (std::filesystem::is_directory(status))
    fail_input(fmt::format("'{}' is a folder, not an HDF5 file", path));
  if (!std::filesystem::is_regular_file(status))
    fail_input(fmt::format("'{}' is not a regular file, so it can't be an HDF5 file", path));
  if (::access(path.c_str(), R_OK) != 0)
    fail_input(fmt::format("'{}' can't be opened for reading: {}", path, std::strerror(errno)));
}

void check_writable(const std::string& path) {
  const int descriptor = ::open(path.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0666);
  if (descriptor < 0) fail_environment(fmt::format("'{}' can't be written: {}", path, std::strerror(errno)));
  ::close(descriptor);
}

}  // namespace

Hdf5File Hdf5File::open(const std::string& path) {
  initialise_library();
  check_readable(path);
  note_read(path);
  if (H5Fis_hdf5(path.c_str()) <= 0) fail_input(fmt::format("'{}' is not an HDF5 file", path));
  const Id access = disk_properties(path);
  auto impl = std::make_unique<Impl>();
  impl->path = path;
  impl->file = Id(H5Fopen(path.c_str(), H5F_ACC_RDONLY, access.get()), H5Fclose);
  if (!impl->file.valid())
    fail_input(fmt::format("'{}' is damaged or in use by a writer: it can't be opened as an HDF5 file{}",
                           path, library_message()));
  return Hdf5File(std::move(impl));
}

Hdf5File Hdf5File::open_image(const std::string& bytes, const std::string& name) {
  initialise_library();
  const Id access = memory_properties();
  std::string copy = bytes;  // the library asks for a pointer to non-const, and copies from it
  auto impl = std::make_unique<Impl>();
  impl->path = name;
  if (!bytes.empty() && H5Pset_file_image(access.get(), copy.data(), copy.size()) >= 0)
    impl->file = Id(H5Fopen(name.c_str(), H5F_ACC_RDONLY, access.get()), H5Fclose);
  if (!impl->file.valid())
    fail_input(fmt::format("'{}' is not an HDF5 file, or is damaged{}", name, library_message()));
  return Hdf5File(std::move(impl));
}

Hdf5File Hdf5File::create(const std::string& path) {
  initialise_library();
  check_writable(path);
  const Id access = disk_properties(path);
  auto impl = std::make_unique<Impl>();
  impl->path = path;
  impl->writing = true;
  impl->file = Id(H5Fcreate(path.c_str(), H5F_ACC_TRUNC, H5P_DEFAULT, access.get()), H5Fclose);
  if (!impl->file.valid()) fail_environment(fmt::format("'{}' can't be created{}", path, library_message()));
  return Hdf5File(std::move(impl));
}

Hdf5File Hdf5File::create_in_memory(const std::string& name) {
  initialise_library();
  const Id access = memory_properties();
  auto impl = std::make_unique<Impl>();
  impl->path = name;
  impl->writing = true;
  impl->file = Id(H5Fcreate(name.c_str(), H5F_ACC_TRUNC, H5P_DEFAULT, access.get()), H5Fclose);
  if (!impl->file.valid())
    fail_environment(fmt::format("no HDF5 file could be made in memory for '{}'{}", name, library_message()));
  return Hdf5File(std::move(impl));
}

void Hdf5File::close() {
  if (!impl_->file.valid()) return;
  if (impl_->writing && H5Fflush(impl_->file.get(), H5F_SCOPE_GLOBAL) < 0) {
    const std::string message = library_message();
    impl_->file.reset();
    fail_environment(fmt::format("'{}' could not be written in full{}", impl_->path, message));
  }
  if (!impl_->file.reset() && impl_->writing)
    fail_environment(fmt::format("'{}' could not be closed{}", impl_->path, library_message()));
}

std::string Hdf5File::image() {
  const hid_t file = impl_->file.get();
  impl_->need(H5Fflush(file, H5F_SCOPE_GLOBAL), "/", "could not be flushed");
  const ssize_t size = impl_->need(H5Fget_file_image(file, nullptr, 0), "/", "has no readable image");
  require_memory(static_cast<double>(size), "the image of an HDF5 file");
  std::string bytes(static_cast<size_t>(size), '\0');
  impl_->need(H5Fget_file_image(file, bytes.data(), bytes.size()), "/", "has no readable image");
  return bytes;
}

}  // namespace hyperattn

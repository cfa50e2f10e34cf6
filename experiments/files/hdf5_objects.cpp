// Objects of an HDF5 file: links, datasets and what they say about themselves, checked before it is believed.
#include <algorithm>
#include <array>

#include "core/error.h"
#include "experiments/files/hdf5_internal.h"

namespace hyperattn {

using namespace hdf5;

namespace {

constexpr int64_t kMaxRank = 32;  // HDF5's own limit (H5S_MAX_RANK)
// A dataset beyond this size must be backed by stored bytes; deflate shrinks by at most 1032.
constexpr int64_t kUnbackedAllowed = 64 * kMiB;
constexpr int64_t kMaxCompression = 1100;
constexpr int64_t kLargeChunk = 256 * kMiB;

herr_t refuse_external_link(const char*, const char*, const char*, const char*, unsigned*, hid_t, void*) {
  return -1;
}

/// Link access that never leaves the file: an untrusted file must not make us read others.
template <class MakeId>
Id inside_file(MakeId make_property_list) {
  Id properties(make_property_list, H5Pclose);
  H5Pset_elink_cb(properties.get(), refuse_external_link, nullptr);
  return properties;
}

std::string parent_of(const std::string& object) {
  const size_t slash = object.rfind('/');
  return slash == std::string::npos ? "" : object.substr(0, slash);
}

herr_t collect_link(hid_t, const char* name, const H5L_info_t*, void* names) {
  static_cast<std::vector<std::string>*>(names)->emplace_back(name);
  return 0;
}

}  // namespace

bool Hdf5File::Impl::link_exists(const std::string& object) const {
  if (object == "/") return true;
  if (object.empty()) return false;
  const std::string parent = parent_of(object);
  if (!parent.empty() && !link_exists(parent)) return false;
  const Id access = inside_file(H5Pcreate(H5P_LINK_ACCESS));
  return H5Lexists(file.get(), object.c_str(), access.get()) > 0 &&
         H5Oexists_by_name(file.get(), object.c_str(), access.get()) > 0;
}

Id Hdf5File::Impl::open_object(const std::string& object) const {
  if (!link_exists(object)) fail(object, "is missing");
  const Id access = inside_file(H5Pcreate(H5P_LINK_ACCESS));
  return need_id(H5Oopen(file.get(), object.c_str(), access.get()), H5Oclose, object, "can't be opened");
}

Id Hdf5File::Impl::open_dataset(const std::string& dataset) const {
  Id id = open_object(dataset);
  if (H5Iget_type(id.get()) != H5I_DATASET) fail(dataset, "must be a dataset, but is a group or a type");
  return id;
}

std::vector<int64_t> Hdf5File::Impl::shape_of(hid_t space, const std::string& object) const {
  const H5S_class_t kind = H5Sget_simple_extent_type(space);
  if (kind != H5S_SIMPLE && kind != H5S_SCALAR) fail(object, "has no elements (an HDF5 null dataspace)");
  const int rank = need(H5Sget_simple_extent_ndims(space), object, "has an unreadable shape");
  if (rank > kMaxRank) fail(object, "has " + std::to_string(rank) + " dimensions, more than HDF5 allows");
  std::array<hsize_t, kMaxRank> extents{};
  need(H5Sget_simple_extent_dims(space, extents.data(), nullptr), object, "has an unreadable shape");
  std::vector<int64_t> shape(extents.begin(), extents.begin() + rank);
  for (int64_t extent : shape)
    if (extent < 0) fail(object, "has a dimension beyond 2^63");
  if (count_elements(shape) < 0)
    fail(object, "has shape " + shape_text(shape) + ", more elements than can be counted in 63 bits");
  return shape;
}

DatasetInfo Hdf5File::Impl::info_of(hid_t dataset, const std::string& name) const {
  const Id type = need_id(H5Dget_type(dataset), H5Tclose, name, "has an unreadable type");
  const Id space = need_id(H5Dget_space(dataset), H5Sclose, name, "has an unreadable shape");
  const ElementType element = element_type(type.get());
  return {shape_of(space.get(), name), element.element, static_cast<int64_t>(H5Tget_size(type.get())),
          element.name};
}

/// Refuses storage that lies outside the file, and sizes that the stored bytes cannot account for, before any
/// memory is taken for them.
void Hdf5File::Impl::check_storage(hid_t dataset, const DatasetInfo& info, const std::string& name) const {
  int64_t bytes = 0;
  if (__builtin_mul_overflow(info.size(), info.element_bytes, &bytes))
    fail(name, "has shape " + shape_text(info.shape) + ", more bytes than can be counted in 63 bits");
  const Id properties =
      need_id(H5Dget_create_plist(dataset), H5Pclose, name, "has unreadable creation properties");
  const H5D_layout_t layout = H5Pget_layout(properties.get());
  if (layout == H5D_VIRTUAL || H5Pget_external_count(properties.get()) != 0)
    fail(name, "keeps its values in other files (external or virtual storage), which is not accepted");
  if (layout == H5D_CHUNKED) {
    std::array<hsize_t, kMaxRank> extents{};
    const int rank = H5Pget_chunk(properties.get(), kMaxRank, extents.data());
    double chunk_bytes = static_cast<double>(info.element_bytes);
    for (int i = 0; i < rank; ++i) chunk_bytes *= static_cast<double>(extents[static_cast<size_t>(i)]);
    if (chunk_bytes > static_cast<double>(std::max(bytes, kLargeChunk)))
      fail(name, "is stored in chunks far larger than itself");
  }
  const auto stored = static_cast<double>(H5Dget_storage_size(dataset));
  if (bytes > kUnbackedAllowed && stored * kMaxCompression < static_cast<double>(bytes))
    fail(name, "declares shape " + shape_text(info.shape) + " (" + std::to_string(bytes) +
                   " bytes), but its values were never written");
}

void Hdf5File::Impl::check_numeric(const DatasetInfo& info, const std::string& name,
                                   bool integers_only) const {
  if (info.element == ElementClass::integer || (info.element == ElementClass::real && !integers_only)) return;
  fail(name, std::string("must hold ") +
                 (integers_only ? "integers" : "float16, float32, float64 or integers") + ", but holds " +
                 (info.element_name == "other" ? "elements of another type" : info.element_name));
}

bool Hdf5File::exists(const std::string& object) const {
  return impl_->link_exists(object);
}

std::vector<std::string> Hdf5File::children(const std::string& group) const {
  const Id id = impl_->open_object(group);
  if (H5Iget_type(id.get()) != H5I_GROUP) impl_->fail(group, "must be a group, but is a dataset or a type");
  std::vector<std::string> names;
  impl_->need(H5Literate(id.get(), H5_INDEX_NAME, H5_ITER_NATIVE, nullptr, collect_link, &names), group,
              "can't be listed");
  std::sort(names.begin(), names.end());
  return names;
}

DatasetInfo Hdf5File::info(const std::string& dataset) const {
  return impl_->info_of(impl_->open_dataset(dataset).get(), dataset);
}

}  // namespace hyperattn

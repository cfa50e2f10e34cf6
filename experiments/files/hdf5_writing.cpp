// Writing groups and datasets of an HDF5 file.
#include <algorithm>

#include "experiments/files/hdf5_internal.h"

namespace hyperattn {

using namespace hdf5;

Id Hdf5File::Impl::simple_space(const std::vector<int64_t>& shape, const std::string& name) const {
  const std::vector<hsize_t> extents(shape.begin(), shape.end());
  const hid_t space = shape.empty()
                          ? H5Screate(H5S_SCALAR)
                          : H5Screate_simple(static_cast<int>(shape.size()), extents.data(), nullptr);
  return need_id(space, H5Sclose, name, "can't have this shape");
}

Id Hdf5File::Impl::create_dataset(const std::string& name, hid_t type, hid_t space, hid_t properties) const {
  const Id links(H5Pcreate(H5P_LINK_CREATE), H5Pclose);
  H5Pset_create_intermediate_group(links.get(), 1);
  H5Pset_obj_track_times(properties, 0);  // equal contents give equal bytes
  return need_id(H5Dcreate2(file.get(), name.c_str(), type, space, links.get(), properties, H5P_DEFAULT),
                 H5Dclose, name, "could not be created");
}

void Hdf5File::Impl::write(const std::string& name, const std::vector<int64_t>& shape, hid_t file_type,
                           hid_t memory_type, const void* values) const {
  const Id space = simple_space(shape, name);
  const Id properties(H5Pcreate(H5P_DATASET_CREATE), H5Pclose);
  const Id id = create_dataset(name, file_type, space.get(), properties.get());
  if (count_elements(shape) > 0)
    need(H5Dwrite(id.get(), memory_type, H5S_ALL, H5S_ALL, H5P_DEFAULT, values), name,
         "could not be written");
}

void Hdf5File::make_group(const std::string& group) {
  if (impl_->link_exists(group)) return;
  const Id links(H5Pcreate(H5P_LINK_CREATE), H5Pclose);
  H5Pset_create_intermediate_group(links.get(), 1);
  const Id id =
      impl_->need_id(H5Gcreate2(impl_->file.get(), group.c_str(), links.get(), H5P_DEFAULT, H5P_DEFAULT),
                     H5Gclose, group, "could not be created");
}

void Hdf5File::write_tensor(const std::string& dataset, TensorView<const float> tensor) {
  const TensorShape& s = tensor.shape;
  write_floats(dataset, {s.batch, s.heads, s.rows, s.dim}, tensor.data);
}

void Hdf5File::write_floats(const std::string& dataset, const std::vector<int64_t>& shape,
                            const float* values) {
  impl_->write(dataset, shape, H5T_IEEE_F32LE, H5T_NATIVE_FLOAT, values);
}

void Hdf5File::create_floats(const std::string& dataset, const std::vector<int64_t>& shape) {
  const Id space = impl_->simple_space(shape, dataset);
  const Id properties(H5Pcreate(H5P_DATASET_CREATE), H5Pclose);
  static_cast<void>(impl_->create_dataset(dataset, H5T_IEEE_F32LE, space.get(), properties.get()));
}

void Hdf5File::write_rows(const std::string& dataset, int64_t first, int64_t count, const float* values) {
  if (count == 0) return;
  const Id id = impl_->open_dataset(dataset);
  const Id space = impl_->need_id(H5Dget_space(id.get()), H5Sclose, dataset, "has no shape");
  std::vector<hsize_t> extents(static_cast<size_t>(H5Sget_simple_extent_ndims(space.get())));
  H5Sget_simple_extent_dims(space.get(), extents.data(), nullptr);
  std::vector<hsize_t> begin(extents.size(), 0);
  begin[0] = static_cast<hsize_t>(first);
  extents[0] = static_cast<hsize_t>(count);
  impl_->need(
      H5Sselect_hyperslab(space.get(), H5S_SELECT_SET, begin.data(), nullptr, extents.data(), nullptr),
      dataset, "has no such rows");
  const Id memory =
      impl_->need_id(H5Screate_simple(static_cast<int>(extents.size()), extents.data(), nullptr), H5Sclose,
                     dataset, "can't have this shape");
  impl_->need(H5Dwrite(id.get(), H5T_NATIVE_FLOAT, memory.get(), space.get(), H5P_DEFAULT, values), dataset,
              "could not be written");
}

void Hdf5File::write_doubles(const std::string& dataset, const std::vector<int64_t>& shape,
                             const double* values) {
  impl_->write(dataset, shape, H5T_IEEE_F64LE, H5T_NATIVE_DOUBLE, values);
}

void Hdf5File::write_integers(const std::string& dataset, const std::vector<int64_t>& shape,
                              const int64_t* values) {
  impl_->write(dataset, shape, H5T_STD_I64LE, H5T_NATIVE_INT64, values);
}

void Hdf5File::write_text(const std::string& dataset, const std::string& text) {
  const Id type = fixed_text_type(std::max<size_t>(1, text.size()));
  const std::string bytes = text.empty() ? std::string(1, '\0') : text;
  impl_->write(dataset, {}, type.get(), type.get(), bytes.data());
}

}  // namespace hyperattn

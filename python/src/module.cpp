// hyperattn._core: what python/hyperattn/ is written on. Arrays come in with 2 to 4 axes, float32 and
// row-major; everything that people see is said in Python.
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <exception>
#include <string>
#include <utility>

#include "algorithms/registry.h"
#include "core/error.h"
#include "core/parallel.h"
#include "declarations.h"
#include "device_run.h"
#include "interrupt.h"
#include "run.h"

namespace py = pybind11;

namespace hyperattn::python {
namespace {

/// The classes are Python's own (hyperattn/errors.py).
void raise_by_blame(const Error& error) {
  const char* name = "EnvironmentError";
  if (error.blame() == Blame::usage) name = "UsageError";
  if (error.blame() == Blame::input) name = "InputError";
  const py::object type = py::module_::import("hyperattn.errors").attr(name);
  PyErr_SetString(type.ptr(), error.what());
}

void translate(std::exception_ptr thrown) {
  try {
    if (thrown) std::rethrow_exception(std::move(thrown));
  } catch (const Error& error) {
    raise_by_blame(error);
  }
}

const Backend& backend_of(const std::string& method, const std::string& engine) {
  AttentionOptions options;
  options.engine = engine;
  return Attention(method, {}, options).backend();
}

}  // namespace
}  // namespace hyperattn::python

PYBIND11_MODULE(_core, module) {
  using namespace hyperattn;
  using namespace hyperattn::python;
  py::register_exception_translator(translate);
  note_forks();
  module.attr("version") = HYPERATTN_VERSION;

  py::class_<Request, std::shared_ptr<Request>>(module, "Request")
      .def(py::init<const std::string&, const std::string&, const py::dict&, bool, int64_t,
                    std::optional<double>, uint64_t, uint32_t>(),
           py::arg("method"), py::arg("engine"), py::arg("settings"), py::arg("causal"), py::arg("window"),
           py::arg("scale"), py::arg("seed"), py::arg("trial"))
      .def("no_gradient", &Request::no_gradient);

  py::class_<Run>(module, "Run")
      .def(py::init<std::shared_ptr<Request>, Array, Array, Array>(), py::arg("request"),
           py::arg("q").noconvert(), py::arg("k").noconvert(), py::arg("v").noconvert())
      .def("forward", &Run::forward)
      .def("out", [](const py::object& self) { return Run::out(self); })
      .def("lse", [](const py::object& self) { return Run::lse(self); })
      .def("diagnostics", &Run::diagnostics)
      .def("backward", &Run::backward, py::arg("dout").noconvert())
      .def("measure", &Run::measure, py::arg("figures"), py::arg("settings"));

  py::class_<DeviceRun>(module, "DeviceRun")
      .def(py::init<std::shared_ptr<Request>, const TensorTold&, const TensorTold&, const TensorTold&, int,
                    uint64_t>(),
           py::arg("request"), py::arg("q"), py::arg("k"), py::arg("v"), py::arg("device"), py::arg("stream"))
      .def("plan", &DeviceRun::plan)
      .def("forward", &DeviceRun::forward, py::arg("out"), py::arg("lse"), py::arg("backward_follows"))
      .def("wait", &DeviceRun::wait)
      .def("diagnostics", &DeviceRun::diagnostics)
      .def("backward", &DeviceRun::backward, py::arg("out"), py::arg("dout"), py::arg("dq"), py::arg("dk"),
           py::arg("dv"));

  module.def("methods", &table_of_methods);
  module.def("engines", &table_of_engines);
  module.def("figures", &table_of_figures);
  module.def(
      "settings",
      [](const std::string& method, const std::string& engine) {
        return table_of_settings(backend_of(method, engine).parameters());
      },
      py::arg("method"), py::arg("engine"));
  module.def("threads", &thread_count);
}

// What the driver's management library knows, which comes with every driver and is looked for when it is
// asked.
#include <cuda_runtime_api.h>
#include <dlfcn.h>

#include <cmath>
#include <memory>

#include "algorithms/engines/cuda/device.h"

namespace hyperattn::cuda {
namespace {

constexpr int kClockOfMultiprocessors = 1;  // NVML_CLOCK_SM
constexpr int kClockOfMemory = 2;           // NVML_CLOCK_MEM

/// The functions of libnvidia-ml that are asked here, as nvml.h declares them.
class Management {
 public:
  Management() : library_(dlopen("libnvidia-ml.so.1", RTLD_NOW), &close) {
    const auto begin = function<int()>("nvmlInit_v2");
    ready_ = begin != nullptr && begin() == 0;
  }

  void fill(const char* bus, DeviceFacts& facts) const {
    if (!ready_) return;
    char text[80] = {};
    if (const auto driver = function<int(char*, unsigned)>("nvmlSystemGetDriverVersion");
        driver != nullptr && driver(text, sizeof text) == 0)
      facts.driver = text;
    void* device = nullptr;
    const auto find = function<int(const char*, void**)>("nvmlDeviceGetHandleByPciBusId_v2");
    if (find == nullptr || find(bus, &device) != 0) return;
    const auto clock = function<int(void*, int, unsigned*)>("nvmlDeviceGetMaxClockInfo");
    unsigned megahertz = 0;
    if (clock != nullptr && clock(device, kClockOfMultiprocessors, &megahertz) == 0)
      facts.clock_megahertz = static_cast<int>(megahertz);
    if (clock != nullptr && clock(device, kClockOfMemory, &megahertz) == 0)
      facts.memory_clock_megahertz = static_cast<int>(megahertz);
    unsigned milliwatts = 0;
    if (const auto limit = function<int(void*, unsigned*)>("nvmlDeviceGetEnforcedPowerLimit");
        limit != nullptr && limit(device, &milliwatts) == 0)
      facts.power_limit_watts = 1e-3 * static_cast<double>(milliwatts);
  }

 private:
  static void close(void* library) {
    if (library != nullptr) dlclose(library);
  }
  template <class Signature>
  [[nodiscard]] Signature* function(const char* name) const {
    return library_ ? reinterpret_cast<Signature*>(dlsym(library_.get(), name)) : nullptr;
  }

  std::unique_ptr<void, void (*)(void*)> library_;
  bool ready_ = false;
};

}  // namespace

DeviceFacts device_facts() {
  static_cast<void>(Device::current());
  int device = 0;
  check(cudaGetDevice(&device), "choosing the GPU");
  cudaDeviceProp properties{};
  check(cudaGetDeviceProperties(&properties, device), "asking for the GPU's name");
  DeviceFacts facts;
  facts.name = properties.name;
  facts.cuda = std::to_string(CUDART_VERSION / 1000) + "." + std::to_string(CUDART_VERSION % 1000 / 10);
  facts.memory_bytes = static_cast<int64_t>(properties.totalGlobalMem);
  facts.multiprocessors = properties.multiProcessorCount;
  char bus[32] = {};
  check(cudaDeviceGetPCIBusId(bus, sizeof bus, device), "asking for the GPU's place");
  Management().fill(bus, facts);
  return facts;
}

std::string to_string(const DeviceFacts& facts) {
  return facts.name + ", " + std::to_string(facts.memory_bytes / (1 << 20)) + " MiB, " +
         std::to_string(facts.multiprocessors) + " multiprocessors at " +
         std::to_string(facts.clock_megahertz) + " MHz, memory at " +
         std::to_string(facts.memory_clock_megahertz) + " MHz, " +
         std::to_string(std::lround(facts.power_limit_watts)) + " W, driver " + facts.driver + ", CUDA " +
         facts.cuda;
}

}  // namespace hyperattn::cuda

#include "server/model/torch_device.h"

#include <dlfcn.h>

#include <ATen/Context.h>
#include <ATen/detail/CUDAHooksInterface.h>

#include "absl/strings/numbers.h"
#include "absl/strings/strip.h"
#include "server/base/log.h"
#include "server/base/strings.h"

namespace secateur {
namespace {

#ifdef SECATEUR_CUDA
constexpr bool kCudaBuild = true;
#else
constexpr bool kCudaBuild = false;
#endif

// Why CUDA cannot be used at all; empty if it can. Loading registers libtorch's CUDA kernels, and
// has to come before libtorch is asked for them the first time. Loaded and not linked: the 200 KiB
// of thread-local storage in these libraries would otherwise be taken from the stack of every
// thread, and leave none to those of the metrics listener.
const std::string& LoadCuda() {
  static const std::string trouble = []() -> std::string {
    if (!kCudaBuild) return "this build has no CUDA; configure it with -DSECATEUR_CUDA=ON";
    if (dlopen("libtorch_cuda.so", RTLD_NOW | RTLD_GLOBAL) == nullptr) {
      return StrCat("libtorch's CUDA libraries cannot be loaded (", dlerror(),
                    "); run scripts/setup --cuda");
    }
    return at::Context::hasCUDART() ? "" : "CUDA was loaded too late: please report this";
  }();
  return trouble;
}

// How many GPUs there are; why there are none goes to `trouble`.
int CountGpus(std::string& trouble) {
  trouble = LoadCuda();
  if (!trouble.empty()) return 0;
  const int gpus = at::globalContext().hasCUDA() ? at::detail::getCUDAHooks().getNumGPUs() : 0;
  if (gpus == 0) trouble = "the NVIDIA driver shows no GPU; make nvidia-smi list one";
  return gpus;
}

Device Auto() {
  std::string trouble;
  if (CountGpus(trouble) > 0) return Device{"cuda:0"};
  if (kCudaBuild) Log(LogLevel::kWarning, "no GPU: computing on the CPU", {{"reason", trouble}});
  return Device{"cpu"};
}

}  // namespace

absl::StatusOr<Device> Device::Parse(const std::string& text) {
  if (text == "cpu") return Device{"cpu"};
  if (text == "auto") return Auto();
  absl::string_view number = text;
  int index = 0;
  if (!absl::ConsumePrefix(&number, "cuda:") || !absl::SimpleAtoi(number, &index) || index < 0) {
    return absl::InvalidArgumentError(
        StrCat("device \"", text, "\" is none of \"auto\", \"cpu\" and \"cuda:N\""));
  }
  std::string trouble;
  const int gpus = CountGpus(trouble);
  if (index < gpus) return Device{StrCat("cuda:", index)};
  const std::string why = gpus == 0 ? StrCat(trouble, ", or say \"cpu\"")
                                    : StrCat("the last one here is \"cuda:", gpus - 1, "\"");
  return absl::InvalidArgumentError(StrCat("device \"", text, "\" does not exist: ", why));
}

}  // namespace secateur

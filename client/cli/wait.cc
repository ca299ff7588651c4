#include "client/cli/wait.h"

#include "absl/strings/str_cat.h"
#include "client/cli/exit_code.h"
#include "client/cli/interrupt.h"
#include "client/cli/progress.h"

namespace secateur::cli {

absl::StatusOr<google::longrunning::Operation> WaitUntilInterrupted(
    const OperationHandle& operation, WaitOptions options) {
  const InterruptScope interrupt;
  options.stop = interrupt.token();
  auto done = operation.Wait(options);
  if (done.ok() || !options.stop.stop_requested()) return done;
  return WithExitCode(
      absl::CancelledError(absl::StrCat(operation.name(), " goes on; see how it does with: ",
                                        "secateur operation watch ", operation.name())),
      kDetached);
}

absl::StatusOr<google::longrunning::Operation> WaitWithBar(const OperationHandle& operation,
                                                           const Context& context) {
  ProgressBar bar(context.err, context.err_is_terminal);
  WaitOptions options;
  options.progress = [&bar](const google::longrunning::Operation& state) {
    const v1::OperationMetadata metadata = MetadataOf(state);
    bar.Show(ShareDone(metadata.progress()), FormatProgress(metadata));
  };
  return WaitUntilInterrupted(operation, options);
}

absl::Status OutcomeOf(const google::longrunning::Operation& operation) {
  const absl::Status error = ErrorOf(operation);
  if (error.ok()) return error;
  return WithExitCode(WithPrefix(operation.name(), error), kOperationFailed);
}

}  // namespace secateur::cli

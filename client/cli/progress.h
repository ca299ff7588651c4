// How far an operation is, as one line, and the bar that redraws it.
#pragma once

#include <ostream>
#include <string>

#include "secateur/v1/operation.pb.h"

namespace secateur::cli {

// "profile  42%  1.23M of 2.92M tokens  612 tokens/s  ETA 2m 5s"; parts that are not known are left
// out. Before the work starts: "queued".
std::string FormatProgress(const v1::OperationMetadata& metadata);
// The share of the present phase that is done, 0 to 1; negative when the total is not known.
double ShareDone(const v1::OperationProgress& progress);

// One line that is drawn over itself; the destructor wipes it. Draws nothing when not `visible`.
class ProgressBar {
 public:
  ProgressBar(std::ostream& err, bool visible) : err_(err), visible_(visible) {}
  ~ProgressBar();
  ProgressBar(const ProgressBar&) = delete;
  ProgressBar& operator=(const ProgressBar&) = delete;

  // `share` from 0 to 1 as a bar, none when negative; then `text`.
  void Show(double share, const std::string& text);

 private:
  std::ostream& err_;
  const bool visible_;
  bool drawn_ = false;
};

}  // namespace secateur::cli

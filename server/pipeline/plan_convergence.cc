#include "server/pipeline/plan_convergence.h"

#include <algorithm>
#include <cmath>

#include "absl/strings/str_format.h"
#include "server/base/status_macros.h"

namespace secateur {
namespace {

// Counts of documents are advised in steps of about a tenth: the estimate is not better.
int64_t Rounded(double documents) {
  const double step = std::max(1.0, std::pow(10.0, std::floor(std::log10(documents)) - 1));
  return static_cast<int64_t>(std::ceil(documents / step) * step);
}

std::string Advice(const std::optional<Convergence>& convergence, int64_t documents) {
  if (!convergence) {
    return absl::StrFormat(
        "%d %s too few to tell how stable the choice of neurons is: "
        "upload more of each selected label",
        documents, documents == 1 ? "document is" : "documents are");
  }
  if (convergence->agreement >= kEnoughAgreement) return "";
  if (convergence->growth >= kMostGrowth) {
    return absl::StrFormat(
        "the choice of neurons is mostly chance: upload many more than the %d "
        "documents there are",
        documents);
  }
  const int64_t more = Rounded(static_cast<double>(documents) * (convergence->growth - 1));
  return absl::StrFormat("about %d more %s of this kind would bring the agreement to %.2f", more,
                         more == 1 ? "document" : "documents", kEnoughAgreement);
}

}  // namespace

absl::StatusOr<std::optional<v1::Convergence>> PlanConvergence::At(const PlannedExpert& planned) {
  const RemovalOrder& order = composed_.order;
  const bool removes = order.rule == Rule::kMean && !order.layers.empty() &&
                       !composed_.views.front()->layers.front().half.empty() &&
                       planned.size.width < std::ssize(order.layers[0]);
  if (!removes) return std::optional<v1::Convergence>();
  if (!is_composed_) {
    std::vector<WeightedView> views;
    for (size_t i = 0; i < composed_.views.size(); ++i) {
      views.push_back({composed_.views[i].get(), composed_.sources.views[i].weight});
    }
    ASSIGN_OR_RETURN(halves_, Halves::Compose(views));
    is_composed_ = true;
  }
  std::optional<Convergence> convergence;
  if (halves_) convergence = halves_->At(planned.size.width);
  int64_t documents = 0;
  for (const ProfileInfo& profile : composed_.profiles) documents += profile.documents;
  v1::Convergence out;
  if (convergence) {
    out.set_split_half_agreement(convergence->split_half);
    out.set_agreement(convergence->agreement);
  }
  out.set_document_count(documents);
  // General text is not of the kind that more is wanted of.
  out.set_advice(Advice(convergence, composed_.sources.documents));
  return out;
}

}  // namespace secateur

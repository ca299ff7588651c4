// CompareDimensions.
#include <algorithm>
#include <utility>

#include "server/base/errors.h"
#include "server/base/status_macros.h"
#include "server/base/strings.h"
#include "server/pipeline/compare_dimensions.h"
#include "server/service/find_model.h"
#include "server/service/names.h"
#include "server/service/secateur_service.h"
#include "server/service/validate.h"

namespace secateur {
namespace {

constexpr int kMostValues = 16;

absl::Status Bad(const std::string& path, const std::string& message) {
  return WithField(absl::InvalidArgumentError(StrCat(path, ": ", message)), path);
}

absl::StatusOr<DimensionRequest> Checked(const v1::CompareDimensionsRequest& request,
                                         int64_t max_positions) {
  if (request.values_size() < 2 || request.values_size() > kMostValues) {
    return Bad("values",
               StrCat(request.values_size(), " values; 2 to ", kMostValues, " can be compared"));
  }
  DimensionRequest checked;
  for (int i = 0; i < request.values_size(); ++i) {
    const std::string path = StrCat("values[", i, "]");
    const v1::DimensionValue& value = request.values(i);
    if (!IsSlug(value.key()) || !IsSlug(value.value())) {
      return Bad(path, "key and value must be slugs: [a-z0-9] then up to 62 of [a-z0-9._-]");
    }
    const std::pair<std::string, std::string> label(value.key(), value.value());
    if (std::find(checked.values.begin(), checked.values.end(), label) != checked.values.end()) {
      return Bad(path, StrCat(label.first, "=", label.second, " stands there twice"));
    }
    checked.values.push_back(label);
  }
  if (request.neuron_ratio() != 0) checked.neuron_ratio = request.neuron_ratio();
  if (!(checked.neuron_ratio > 0 && checked.neuron_ratio < 1)) {
    return Bad("neuron_ratio",
               StrCat(request.neuron_ratio(), " is not above 0 and below 1 (35 % is 0.35)"));
  }
  checked.max_document_tokens = request.max_document_tokens() != 0
                                    ? request.max_document_tokens()
                                    : std::min<int64_t>(512, max_positions);
  RETURN_IF_ERROR(
      CheckDocumentTokens(checked.max_document_tokens, max_positions, "max_document_tokens"));
  return checked;
}

absl::Status Compare(const ServiceParts& parts, const v1::CompareDimensionsRequest& request,
                     v1::CompareDimensionsResponse& response) {
  ASSIGN_OR_RETURN(const auto model, FindModel(parts, request.parent()));
  ASSIGN_OR_RETURN(const DimensionRequest checked, Checked(request, model->config().max_positions));
  RETURN_IF_ERROR(model->digest().status());
  ASSIGN_OR_RETURN(const ComparedDimensions compared,
                   CompareDimensions(*model, checked, parts.stores));
  response.mutable_comparisons()->Add(compared.pairs.begin(), compared.pairs.end());
  response.set_width(compared.width);
  response.set_jaccard_by_chance(compared.jaccard_by_chance);
  return absl::OkStatus();
}

}  // namespace

SecateurService::Reactor* SecateurService::CompareDimensions(
    Context* context, const v1::CompareDimensionsRequest* request,
    v1::CompareDimensionsResponse* response) {
  return parts_.calls.LongUnary(
      context, "CompareDimensions", *request,
      [this, request, response](RunContext&) { return Compare(parts_, *request, *response); });
}

}  // namespace secateur

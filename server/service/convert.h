// Domain to proto.
#pragma once

#include <string>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "google/longrunning/operations.pb.h"
#include "secateur/v1/operation.pb.h"
#include "secateur/v1/resources.pb.h"
#include "server/artifact/expert_store.h"
#include "server/corpus/corpus_store.h"
#include "server/jobs/operation.h"
#include "server/pipeline/plan_expert.h"
#include "server/pipeline/resident_models.h"
#include "server/profile/profile_store.h"

namespace secateur {

google::protobuf::Timestamp ToTimestamp(absl::Time time);

v1::Model ToProto(const ResidentModels::State& state);
v1::Corpus ToProto(const CorpusInfo& corpus);
v1::Profile ToProto(const ProfileInfo& profile);
// From the expert's own manifest; `store_uri` is where the files are. DATA_LOSS as ParseManifest.
absl::StatusOr<v1::Expert> ToProto(const StoredExpert& expert, const std::string& store_uri);
// What the plan would publish: an Expert without files.
v1::Expert ToExpert(const PlannedExpert& planned, const ComposedRequest& composed,
                    const ResidentModel& model);
v1::Plan ToProto(const PlannedExpert& planned, const ComposedRequest& composed,
                 const ResidentModel& model);
google::longrunning::Operation ToProto(const Operation& operation);

// "1", "2" ...: the corpus's generation.
std::string EtagOf(const CorpusInfo& corpus);

}  // namespace secateur

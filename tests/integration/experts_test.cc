// Plans and experts over gRPC, from upload to download. expert_rules_test.cc has the ways to choose
// and to make up for what goes.
#include <cmath>
#include <filesystem>
#include <fstream>

#include "server/base/digest.h"
#include "tests/integration/live_server.h"
#include "tests/support/status_matchers.h"

namespace secateur {
namespace {

using testing::Contains;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Key;
using testing::Not;
using testing::SizeIs;
using Stub = v1::Secateur::Stub;

grpc::Status GetExpert(LiveServer& live, const std::string& name, v1::Expert* expert) {
  v1::GetExpertRequest request;
  request.set_name(name);
  return live.Call(&Stub::GetExpert, request, expert);
}

TEST(PlanExpert, AnswersForSeveralSizesAndStoresNothing) {
  LiveServer live;
  UploadLawCorpora(live);
  v1::PlanExpertRequest request;
  request.set_parent("models/tiny");
  *request.mutable_spec() = LawRequest().spec();
  v1::PlanExpertResponse response;
  const grpc::Status missing = live.Call(&Stub::PlanExpert, request, &response);
  EXPECT_THAT(missing, IsError(grpc::FAILED_PRECONDITION, "PROFILE_MISSING"));
  EXPECT_TRUE(ErrorOf(missing).precondition);
  live.ProfileAll();
  const auto before = live.Stored();
  request.mutable_spec()->clear_budget();
  for (const double ratio : {0.0, 0.25, 0.5, 0.75}) request.add_budgets()->set_neuron_ratio(ratio);
  request.add_budgets()->set_width(32);
  ASSERT_RPC_OK(live.Call(&Stub::PlanExpert, request, &response));
  ASSERT_THAT(response.plans(), SizeIs(5));
  int64_t width = 128;
  for (const v1::Plan& plan : response.plans()) {
    EXPECT_EQ(plan.size().width(), width);
    EXPECT_DOUBLE_EQ(plan.size().neuron_ratio(), 1 - static_cast<double>(width) / 128);
    EXPECT_EQ(plan.base_size().width(), 128);
    EXPECT_EQ(plan.source(), v1::BLEND) << plan.source_reason();
    EXPECT_EQ(plan.shared_corpus_count(), 1);
    EXPECT_EQ(plan.document_count(), 15);
    EXPECT_THAT(plan.protected_neuron_counts(), SizeIs(3));
    EXPECT_EQ(plan.has_convergence(), width < 128);  // where nothing goes there is nothing to tell
    EXPECT_GE(plan.convergence().agreement(), plan.convergence().split_half_agreement());
    EXPECT_LE(plan.convergence().agreement(), 1);
    EXPECT_EQ(plan.convergence().document_count(), width < 128 ? 15 : 0);
    EXPECT_THAT(plan.corpora(), SizeIs(3));
    EXPECT_THAT(plan.engines(), SizeIs(3));
    EXPECT_FALSE(plan.expert_exists());
    width = std::max<int64_t>(32, width - 32);
  }
  EXPECT_EQ(response.plans(3).mask_digest(), response.plans(4).mask_digest());
  EXPECT_EQ(response.plans(3).expert(), response.plans(4).expert());
  EXPECT_EQ(live.Stored(), before);
}

TEST(PlanExpert, SaysWhichSourceItTookAndWhy) {
  LiveServer live;
  UploadLawCorpora(live);
  live.ProfileAll();
  const auto plan = [&](v1::Rule rule) {
    v1::PlanExpertRequest request;
    request.set_parent("models/tiny");
    *request.mutable_spec() = LawRequest().spec();
    request.mutable_spec()->set_rule(rule);
    v1::PlanExpertResponse response;
    EXPECT_RPC_OK(live.Call(&Stub::PlanExpert, request, &response));
    return response.plans_size() == 1 ? response.plans(0) : v1::Plan();
  };
  const v1::Plan blended = plan(v1::RELATIVE_MEAN), published = plan(v1::CUS_PRUN);
  EXPECT_EQ(blended.source(), v1::BLEND);
  EXPECT_THAT(blended.source_reason(), HasSubstr("6 documents carry all selected labels"));
  EXPECT_EQ(published.source(), v1::COMPOSE);
  EXPECT_THAT(published.source_reason(), HasSubstr("CUS_PRUN has no weights"));
  live.Upload({{"language", "en"}, {"domain", "law"}, {"task", "qa"}},
              JsonLines(32, "more english law"));
  live.ProfileAll();
  for (const v1::Rule rule : {v1::RELATIVE_MEAN, v1::CUS_PRUN}) {
    const v1::Plan cell = plan(rule);
    EXPECT_EQ(cell.source(), v1::CELL);
    EXPECT_THAT(cell.source_reason(), HasSubstr("38 documents carry all selected labels"));
  }
}

TEST(PlanExpert, TellsWhatCompensationTakesWhereItIsAskedFor) {
  LiveServer live;
  UploadLawCorpora(live);
  live.ProfileAll();
  for (const v1::Compensation compensation :
       {v1::NONE, v1::BIAS, v1::LEAST_SQUARES, v1::SEQUENTIAL}) {
    v1::PlanExpertRequest request;
    request.set_parent("models/tiny");
    *request.mutable_spec() = LawRequest().spec();
    request.mutable_spec()->set_compensation(compensation);
    request.mutable_spec()->clear_budget();
    for (const int64_t width : {64, 96}) request.add_budgets()->set_width(width);
    v1::PlanExpertResponse response;
    ASSERT_RPC_OK(live.Call(&Stub::PlanExpert, request, &response));
    ASSERT_THAT(response.plans(), SizeIs(2));
    for (const v1::Plan& plan : response.plans()) {
      EXPECT_EQ(plan.has_compensation_cost(), compensation != v1::NONE);
      if (compensation == v1::NONE) continue;
      EXPECT_GT(plan.compensation_cost().token_count(), 0);
      EXPECT_GT(plan.compensation_cost().memory_bytes(), 0);
      EXPECT_GT(plan.compensation_cost().disk_bytes(), 0);
    }
  }
}

TEST(PlanExpert, NamesTheFieldThatCannotBe) {
  LiveServer live;
  UploadLawCorpora(live);
  live.ProfileAll();
  const auto plan = [&](const std::function<void(v1::PlanExpertRequest&)>& change) {
    v1::PlanExpertRequest request;
    request.set_parent("models/tiny");
    *request.mutable_spec() = LawRequest().spec();
    change(request);
    v1::PlanExpertResponse response;
    return live.Call(&Stub::PlanExpert, request, &response);
  };
  EXPECT_RPC_OK(plan([](auto&) {}));
  grpc::Status status = plan([](auto& r) { r.mutable_spec()->mutable_budget()->set_width(33); });
  EXPECT_THAT(status, IsError(grpc::OUT_OF_RANGE, "BUDGET_NOT_REACHABLE"));
  EXPECT_THAT(status.error_message(), HasSubstr("32"));
  EXPECT_EQ(ErrorOf(status).field, "spec.budget");
  status = plan([](auto& r) {
    r.add_budgets()->set_width(64);
    r.add_budgets()->set_width(65);
  });
  EXPECT_THAT(status, IsError(grpc::OUT_OF_RANGE, "BUDGET_NOT_REACHABLE"));
  EXPECT_EQ(ErrorOf(status).field, "budgets[1]");
  status = plan([](auto& r) { r.mutable_spec()->mutable_budget()->set_max_parameters(10); });
  EXPECT_THAT(status, IsError(grpc::OUT_OF_RANGE, "BUDGET_NOT_REACHABLE"));
  status = plan([](auto& r) { r.add_budgets()->set_neuron_ratio(1.5); });
  EXPECT_THAT(status, IsError(grpc::INVALID_ARGUMENT, "INVALID_ARGUMENT"));
  EXPECT_EQ(ErrorOf(status).field, "budgets[0].neuron_ratio");
  status = plan([](auto& r) { r.mutable_spec()->mutable_select(0)->set_values(0, "laws"); });
  EXPECT_THAT(status, IsError(grpc::FAILED_PRECONDITION, "NO_CORPUS_FOR_LABEL"));
  EXPECT_THAT(status.error_message(), HasSubstr("law, cooking"));
  EXPECT_TRUE(ErrorOf(status).precondition);
  status = plan([](auto& r) { r.mutable_spec()->set_shape(v1::PER_LAYER); });
  EXPECT_THAT(status, IsError(grpc::UNIMPLEMENTED, "NOT_HONOURED"));
  EXPECT_EQ(ErrorOf(status).field, "spec.shape");
  status = plan([](auto& r) { r.set_parent("models/other"); });
  EXPECT_THAT(status, IsError(grpc::NOT_FOUND, "NOT_FOUND"));
  status = plan([](auto& r) { r.set_parent("tiny"); });
  EXPECT_THAT(status, IsError(grpc::INVALID_ARGUMENT, "INVALID_ARGUMENT"));
  EXPECT_EQ(ErrorOf(status).field, "parent");
}

TEST(CreateExpert, PublishesACheckedExpertAndReportsItsProgress) {
  LiveServer live;
  UploadLawCorpora(live);
  v1::CreateExpertRequest request = LawRequest();
  request.mutable_spec()->add_evaluation_corpora(
      live.Upload({{"language", "en"}}, JsonLines(2, "held out"), v1::EVALUATION).name());
  lro::Operation operation;
  ASSERT_RPC_OK(live.Create(request, &operation));
  const std::vector<lro::Operation> seen = live.Watch(operation.name());
  ASSERT_FALSE(seen.empty());
  std::vector<std::string> phases;
  for (const lro::Operation& now : seen) {
    const v1::OperationMetadata metadata = MetadataOf(now);
    EXPECT_EQ(metadata.method(), "CreateExpert");
    EXPECT_EQ(now.done(), &now == &seen.back());
    const std::string phase = metadata.progress().phase();
    if (!phase.empty() && (phases.empty() || phases.back() != phase)) phases.push_back(phase);
    if (metadata.progress().total() != 0) {  // 0: not known
      EXPECT_LE(metadata.progress().done(), metadata.progress().total());
    }
  }
  for (const char* phase : {"profile", "compose", "write", "verify", "evaluate", "publish"}) {
    EXPECT_THAT(phases, Contains(phase));
  }
  const auto expert = ResponseOf<v1::Expert>(seen.back());
  EXPECT_EQ(expert.size().width(), 96);
  EXPECT_THAT(expert.protected_neuron_counts(), SizeIs(3));
  EXPECT_EQ(expert.convergence().document_count(), 15);
  EXPECT_GT(expert.verification().token_count(), 0);
  EXPECT_LT(expert.verification().max_logit_error(), 1e-3);
  ASSERT_THAT(expert.evaluations(), SizeIs(1));
  EXPECT_GT(expert.evaluations(0).base_bits_per_byte(), 0);
  EXPECT_TRUE(std::isfinite(expert.evaluations(0).expert_bits_per_byte()));
  v1::Expert got;
  ASSERT_RPC_OK(GetExpert(live, expert.name(), &got));
  EXPECT_EQ(got.SerializeAsString(), expert.SerializeAsString());

  // The folder it names holds these files, and nothing else.
  ASSERT_TRUE(expert.uri().starts_with("file:"));
  std::map<std::string, std::string> digests;
  for (const auto& [name, bytes] : FilesOf(expert.uri().substr(5))) {
    digests[name] = Sha256Of(bytes).Hex();
  }
  EXPECT_EQ(digests, DigestsOf(expert));
  for (const char* file : {"config.json", "model.safetensors", "tokenizer.json", "secateur.json",
                           "README.md", "generation_config.json"}) {
    EXPECT_THAT(digests, Contains(Key(file)));
  }
}

TEST(CreateExpert, AnswersTheSameRequestAtOnceWithTheSameExpert) {
  LiveServer live;
  UploadLawCorpora(live);
  const v1::Expert expert = live.Make(LawRequest());
  v1::CreateExpertRequest again = LawRequest();
  again.mutable_spec()->mutable_select()->SwapElements(0, 1);
  again.mutable_spec()->set_rule(v1::SECOND_ORDER);
  again.mutable_spec()->set_compensation(v1::LEAST_SQUARES);
  again.mutable_spec()->set_general_weight(0.1);
  again.mutable_spec()->set_source(v1::BLEND);
  again.mutable_spec()->mutable_budget()->set_width(96);
  again.set_cache_policy(v1::ONLY_IF_CACHED);
  lro::Operation operation;
  ASSERT_RPC_OK(live.Create(again, &operation));
  EXPECT_TRUE(operation.done());
  EXPECT_EQ(ResponseOf<v1::Expert>(operation).SerializeAsString(), expert.SerializeAsString());
  EXPECT_EQ(live.GetOperation(operation.name()).SerializeAsString(), operation.SerializeAsString());
  // More text under a label is another expert.
  live.Upload({{"language", "en"}}, JsonLines(3, "more english"));
  EXPECT_NE(live.Make(LawRequest()).name(), expert.name());
}

TEST(CreateExpert, WritesTheSameBytesWhenItIsRefreshedOrMadeElsewhere) {
  LiveServer live, elsewhere;
  UploadLawCorpora(live);
  const v1::Expert expert = live.Make(LawRequest());
  v1::CreateExpertRequest refresh = LawRequest();
  refresh.set_cache_policy(v1::REFRESH);
  const v1::Expert refreshed = live.Make(refresh);
  EXPECT_EQ(refreshed.name(), expert.name());
  EXPECT_EQ(DigestsOf(refreshed), DigestsOf(expert));
  UploadLawCorpora(elsewhere);
  const v1::Expert other = elsewhere.Make(LawRequest());
  EXPECT_EQ(other.name(), expert.name());
  EXPECT_EQ(DigestsOf(other), DigestsOf(expert));
}

TEST(CreateExpert, OnlyChecksWhenAskedTo) {
  LiveServer live;
  UploadLawCorpora(live);
  v1::CreateExpertRequest request = LawRequest();
  request.set_validate_only(true);
  lro::Operation operation;
  EXPECT_THAT(live.Create(request, &operation),
              IsError(grpc::FAILED_PRECONDITION, "PROFILE_MISSING"));
  live.ProfileAll();
  const auto before = live.Stored();
  ASSERT_RPC_OK(live.Create(request, &operation));
  ASSERT_TRUE(operation.done());
  const auto expert = ResponseOf<v1::Expert>(operation);
  EXPECT_EQ(expert.size().width(), 96);
  EXPECT_THAT(expert.files(), IsEmpty());
  EXPECT_EQ(live.Stored(), before);
  v1::Expert got;
  EXPECT_THAT(GetExpert(live, expert.name(), &got), IsError(grpc::NOT_FOUND, "NOT_FOUND"));
  request.set_validate_only(false);
  request.set_cache_policy(v1::ONLY_IF_CACHED);
  EXPECT_THAT(live.Create(request, &operation), IsError(grpc::FAILED_PRECONDITION, "NOT_MADE_YET"));
  request.set_cache_policy(v1::USE);
  EXPECT_EQ(live.Make(request).name(), expert.name());
}

TEST(CreateExpert, RefusesAnOutputThatTheOperatorDoesNotAllow) {
  LiveServer live;
  UploadLawCorpora(live);
  v1::CreateExpertRequest request = LawRequest();
  request.set_output_uri("file:" + live.dir().Join("out"));
  lro::Operation operation;
  const grpc::Status status = live.Create(request, &operation);
  EXPECT_THAT(status, IsError(grpc::PERMISSION_DENIED, "PERMISSION_DENIED"));
  EXPECT_EQ(ErrorOf(status).field, "output_uri");
  EXPECT_THAT(status.error_message(), HasSubstr("--allow-write"));
  EXPECT_FALSE(std::filesystem::exists(live.dir().Join("out")));
}

TEST(CreateExpert, CopiesToAnOutputThatTheOperatorAllows) {
  TempDir out;
  LiveServer live([&](ServerOptions& options) { options.allow_write = {"file:" + out.path()}; });
  UploadLawCorpora(live);
  v1::CreateExpertRequest request = LawRequest();
  request.set_output_uri("file:" + out.Join("expert"));
  const v1::Expert expert = live.Make(request);
  std::map<std::string, std::string> digests;
  for (const auto& [name, bytes] : FilesOf(out.path())) digests[name] = Sha256Of(bytes).Hex();
  std::map<std::string, std::string> expected;
  for (const auto& [name, digest] : DigestsOf(expert)) expected["expert/" + name] = digest;
  EXPECT_EQ(digests, expected);  // no temporary file, no folder beside it
  for (const auto& entry : std::filesystem::recursive_directory_iterator(out.path())) {
    if (entry.is_directory()) {
      EXPECT_EQ(entry.path().filename(), "expert");
    }
  }
  EXPECT_EQ(live.Make(request).name(), expert.name());  // the same again is there already
  v1::CreateExpertRequest other = LawRequest(0.5);
  other.set_output_uri(request.output_uri());
  lro::Operation operation;
  ASSERT_RPC_OK(live.Create(other, &operation));
  operation = live.Wait(operation);
  ASSERT_TRUE(operation.has_error());
  EXPECT_EQ(ErrorOf(operation.error()).code, grpc::ALREADY_EXISTS);
  EXPECT_THAT(FilesOf(out.path()), SizeIs(expected.size()));
}

TEST(DownloadExpertFile, SendsEveryByteFromAnyOffset) {
  LiveServer live;
  UploadLawCorpora(live);
  const v1::Expert expert = live.Make(LawRequest());
  for (const v1::ExpertFile& file : expert.files()) {
    std::string bytes;
    v1::ExpertFile about;
    ASSERT_RPC_OK(live.Download(expert.name(), file.name(), 0, &bytes, &about));
    EXPECT_EQ(about.SerializeAsString(), file.SerializeAsString());
    EXPECT_EQ(Sha256Of(bytes).Hex(), file.sha256()) << file.name();
    const auto size = static_cast<int64_t>(bytes.size());
    for (const int64_t offset : {int64_t{1}, size / 2, size}) {
      std::string rest;
      ASSERT_RPC_OK(live.Download(expert.name(), file.name(), offset, &rest));
      EXPECT_TRUE(rest == bytes.substr(static_cast<size_t>(offset))) << file.name() << offset;
    }
    std::string none;
    for (const int64_t offset : {int64_t{-1}, size + 1}) {
      const grpc::Status status = live.Download(expert.name(), file.name(), offset, &none);
      EXPECT_THAT(status, IsError(grpc::OUT_OF_RANGE, "OUT_OF_RANGE"));
      EXPECT_EQ(ErrorOf(status).field, "offset");
    }
  }
  std::string none;
  for (const char* file : {"", "missing", "../secateur.json", "secateur.json/"}) {
    EXPECT_THAT(live.Download(expert.name(), file, 0, &none),
                IsError(grpc::NOT_FOUND, "NOT_FOUND"));
  }
  EXPECT_EQ(none, "");
}

TEST(DownloadExpertFile, EndsInDataLossWhenStoredBytesHaveChanged) {
  LiveServer live;
  UploadLawCorpora(live);
  const v1::Expert expert = live.Make(LawRequest());
  const std::string path = expert.uri().substr(5) + "/model.safetensors";
  std::string bytes = FilesOf(expert.uri().substr(5)).at("model.safetensors");
  bytes.back() = static_cast<char>(bytes.back() ^ 1);
  std::filesystem::remove(path);
  live.dir().Write(std::filesystem::relative(path, live.dir().path()).string(), bytes);
  std::string got;
  const grpc::Status status = live.Download(expert.name(), "model.safetensors", 0, &got);
  EXPECT_THAT(status, IsError(grpc::DATA_LOSS, "DATA_LOSS"));
  EXPECT_EQ(ErrorOf(status).resource, expert.name());
  EXPECT_THAT(live.Http("/metrics"), HasSubstr("expert_file"));
}

TEST(Experts, AreFoundAfterARestartAndGoneAfterDelete) {
  LiveServer live;
  UploadLawCorpora(live);
  const v1::Expert small = live.Make(LawRequest(0.5));
  const v1::Expert large = live.Make(LawRequest(0.25));
  live.Restart();
  v1::Expert got;
  ASSERT_RPC_OK(GetExpert(live, small.name(), &got));
  EXPECT_EQ(got.SerializeAsString(), small.SerializeAsString());
  v1::CreateExpertRequest cached = LawRequest(0.5);
  cached.set_cache_policy(v1::ONLY_IF_CACHED);
  EXPECT_EQ(live.Make(cached).name(), small.name());
  v1::ListExpertsRequest list;
  list.set_parent("models/tiny");
  list.set_page_size(1);
  std::vector<std::string> names;
  do {
    v1::ListExpertsResponse response;
    ASSERT_RPC_OK(live.Call(&Stub::ListExperts, list, &response));
    for (const v1::Expert& expert : response.experts()) names.push_back(expert.name());
    list.set_page_token(response.next_page_token());
  } while (!list.page_token().empty());
  EXPECT_THAT(names, testing::UnorderedElementsAre(small.name(), large.name()));

  v1::DeleteExpertRequest request;
  request.set_name(small.name());
  google::protobuf::Empty empty;
  ASSERT_RPC_OK(live.Call(&Stub::DeleteExpert, request, &empty));
  EXPECT_THAT(GetExpert(live, small.name(), &got), IsError(grpc::NOT_FOUND, "NOT_FOUND"));
  EXPECT_THAT(live.Call(&Stub::DeleteExpert, request, &empty),
              IsError(grpc::NOT_FOUND, "NOT_FOUND"));
  EXPECT_THAT(FilesOf(small.uri().substr(5)), IsEmpty());
  EXPECT_THAT(FilesOf(large.uri().substr(5)), Not(IsEmpty()));
  lro::Operation operation;
  EXPECT_THAT(live.Create(cached, &operation), IsError(grpc::FAILED_PRECONDITION, "NOT_MADE_YET"));
}

TEST(CreateExpert, MakesDamagedProfilesAgainWithoutFailing) {
  LiveServer live;
  UploadLawCorpora(live);
  v1::CreateExpertRequest request = LawRequest();
  request.mutable_spec()->set_rule(v1::RELATIVE_MEAN);
  const v1::Expert whole = live.Make(request);
  live.Restart();  // merged relevance is in memory
  int damaged = 0;
  for (const auto& entry :
       std::filesystem::recursive_directory_iterator(live.store() + "/profiles")) {
    if (!entry.is_regular_file()) continue;
    std::fstream file(entry.path(), std::ios::in | std::ios::out | std::ios::binary);
    file.seekp(-1, std::ios::end);
    file.put('#');
    ++damaged;
  }
  EXPECT_GT(damaged, 1);
  request.set_cache_policy(v1::REFRESH);
  const v1::Expert healed = live.Make(request);
  EXPECT_EQ(healed.name(), whole.name());
  EXPECT_EQ(healed.files(0).sha256(), whole.files(0).sha256());
}

}  // namespace
}  // namespace secateur

#include "client/secateur_client.h"

#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <chrono>
#include <cstdlib>

#include "gmock/gmock.h"
#include "google/longrunning/operations_mock.grpc.pb.h"
#include "google/rpc/error_details.pb.h"
#include "google/rpc/status.pb.h"
#include "gtest/gtest.h"
#include "secateur/v1/secateur_mock.grpc.pb.h"
#include "tests/client/fake_server.h"
#include "tests/support/status_matchers.h"
#include "tests/support/temp_dir.h"

namespace secateur {
namespace {

using testing::AllOf;
using testing::Each;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::Pair;
using testing::SizeIs;

template <class Item>
std::vector<Item> Named(const std::string& prefix, int count) {
  std::vector<Item> items(static_cast<size_t>(count));
  for (int i = 0; i < count; ++i)
    items[static_cast<size_t>(i)].set_name(prefix + std::to_string(i));
  return items;
}

template <class Item>
std::vector<std::string> NamesOf(const std::vector<Item>& items) {
  std::vector<std::string> names;
  for (const Item& item : items) names.push_back(item.name());
  return names;
}

// Connections to it are made, and nothing is ever said.
class SilentPort {
 public:
  SilentPort() {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof(address);
    auto* const any = reinterpret_cast<sockaddr*>(&address);
    EXPECT_EQ(bind(socket_, any, size), 0);
    EXPECT_EQ(listen(socket_, 1), 0);
    EXPECT_EQ(getsockname(socket_, any, &size), 0);
    address_ = "127.0.0.1:" + std::to_string(ntohs(address.sin_port));
  }
  ~SilentPort() { close(socket_); }
  SilentPort(const SilentPort&) = delete;
  SilentPort& operator=(const SilentPort&) = delete;
  const std::string& address() const { return address_; }

 private:
  const int socket_ = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  std::string address_;
};

TEST(Client, GetsResourcesByName) {
  FakeServer server;
  server.secateur.models = Named<v1::Model>("models/m", 2);
  server.secateur.corpora = Named<v1::Corpus>("corpora/c", 2);
  server.secateur.profiles = Named<v1::Profile>("models/m/profiles/p", 2);
  server.secateur.experts = Named<v1::Expert>("models/m/experts/e", 2);
  const SecateurClient client = server.Client();
  EXPECT_EQ(client.GetModel("models/m1")->name(), "models/m1");
  EXPECT_EQ(client.GetCorpus("corpora/c1")->name(), "corpora/c1");
  EXPECT_EQ(client.GetProfile("models/m/profiles/p0")->name(), "models/m/profiles/p0");
  EXPECT_EQ(client.GetExpert("models/m/experts/e1")->name(), "models/m/experts/e1");
  EXPECT_THAT(client.GetModel("models/m7"),
              StatusIs(absl::StatusCode::kNotFound, HasSubstr("models/m7")));
}

TEST(Client, FollowsThePagesOfEveryList) {
  FakeServer server;
  server.secateur.models = Named<v1::Model>("models/m", 5);
  server.secateur.corpora = Named<v1::Corpus>("corpora/c", 3);
  server.secateur.profiles = Named<v1::Profile>("p", 4);
  server.secateur.experts = Named<v1::Expert>("e", 2);
  server.secateur.dimensions.resize(7);
  server.operations.known = Named<Operation>("operations/o", 5);
  const SecateurClient client = server.Client();
  EXPECT_THAT(NamesOf(client.ListModels().value()),
              ElementsAre("models/m0", "models/m1", "models/m2", "models/m3", "models/m4"));
  EXPECT_EQ(server.secateur.list_calls, 3);
  EXPECT_EQ(client.ListCorpora("labels.a = \"b\"")->size(), 3u);
  EXPECT_EQ(server.secateur.filter, "labels.a = \"b\"");
  EXPECT_EQ(client.ListProfiles("models/m")->size(), 4u);
  EXPECT_EQ(server.secateur.parent, "models/m");
  EXPECT_EQ(client.ListExperts("models/x")->size(), 2u);
  EXPECT_EQ(server.secateur.parent, "models/x");
  EXPECT_EQ(client.ListDimensions("models/y")->size(), 7u);
  EXPECT_EQ(server.secateur.parent, "models/y");
  EXPECT_EQ(client.ListOperations()->size(), 5u);
}

TEST(Client, RefusesAListWhosePageFollowsItself) {
  auto stub = std::make_shared<testing::NiceMock<v1::MockSecateurStub>>();
  EXPECT_CALL(*stub, ListModels).Times(2).WillRepeatedly([](auto*, const auto&, auto* response) {
    response->set_next_page_token("again");
    return grpc::Status::OK;
  });
  auto connection = std::make_shared<ClientConnection>();
  connection->secateur = stub;
  EXPECT_THAT(SecateurClient(connection).ListModels(),
              StatusIs(absl::StatusCode::kInternal, HasSubstr("again")));
}

TEST(Client, WorksOnMockStubs) {
  auto stub = std::make_shared<testing::NiceMock<v1::MockSecateurStub>>();
  EXPECT_CALL(*stub, GetModel).WillOnce([](auto*, const auto& request, auto* model) {
    model->set_name(request.name());
    return grpc::Status::OK;
  });
  auto connection = std::make_shared<ClientConnection>();
  connection->secateur = stub;
  connection->operations = std::make_shared<google::longrunning::MockOperationsStub>();
  EXPECT_EQ(SecateurClient(connection).GetModel("models/smollm2")->name(), "models/smollm2");
}

TEST(Client, SendsChangesAsTheyAreGiven) {
  FakeServer server;
  const SecateurClient client = server.Client();
  v1::UpdateCorpusRequest update;
  update.mutable_corpus()->set_name("corpora/c1");
  update.mutable_corpus()->set_etag("e1");
  EXPECT_EQ(client.UpdateCorpus(update)->name(), "corpora/c1");
  EXPECT_EQ(server.secateur.update_request.corpus().etag(), "e1");
  v1::DeleteCorpusRequest remove;
  remove.set_name("corpora/c1");
  remove.set_force(true);
  EXPECT_OK(client.DeleteCorpus(remove));
  EXPECT_TRUE(server.secateur.delete_corpus_request.force());
  EXPECT_OK(client.DeleteProfile("models/m/profiles/p"));
  EXPECT_EQ(server.secateur.deleted, "models/m/profiles/p");
  EXPECT_OK(client.DeleteExpert("models/m/experts/e"));
  EXPECT_EQ(server.secateur.deleted, "models/m/experts/e");
  EXPECT_OK(client.DeleteOperation("operations/o"));
  EXPECT_EQ(server.operations.deleted, "operations/o");
}

TEST(Client, ReturnsErrorsWithTheirDetails) {
  FakeServer server;
  google::rpc::Status rich;
  rich.set_code(grpc::StatusCode::UNIMPLEMENTED);
  rich.set_message("spec.shape MASKED is not served");
  google::rpc::ErrorInfo info;
  info.set_reason("NOT_SERVED");
  rich.add_details()->PackFrom(info);
  server.secateur.refusal =
      grpc::Status(grpc::StatusCode::UNIMPLEMENTED, rich.message(), rich.SerializeAsString());
  const auto plan = server.Client().PlanExpert({});
  EXPECT_THAT(plan, StatusIs(absl::StatusCode::kUnimplemented, HasSubstr("MASKED")));
  EXPECT_EQ(DetailsOfStatus(plan.status()).reason, "NOT_SERVED");
}

TEST(Client, AsksAgainWhenTheServerIsNotAvailableForAMoment) {
  FakeServer server;
  server.secateur.models = Named<v1::Model>("models/m", 1);
  server.secateur.refusal = grpc::Status(grpc::StatusCode::UNAVAILABLE, "starting");
  server.secateur.refusals = 2;
  EXPECT_OK(server.Client().GetModel("models/m0"));
  EXPECT_EQ(server.secateur.calls, 3);
}

TEST(Client, AsksAgainWhenTheServerEndsAsTheCallArrives) {
  FakeServer server;
  server.secateur.models = Named<v1::Model>("models/m", 1);
  server.secateur.refusal = grpc::Status(grpc::StatusCode::CANCELLED, "CANCELLED");
  server.secateur.refusals = 1;
  EXPECT_OK(server.Client().GetModel("models/m0"));
  EXPECT_EQ(server.secateur.calls, 2);
}

TEST(Client, DoesNotRepeatCallsThatChangeSomething) {
  FakeServer server;
  server.secateur.refusal = grpc::Status(grpc::StatusCode::UNAVAILABLE, "draining");
  server.secateur.refusals = 1;
  EXPECT_THAT(server.Client().UpdateCorpus({}),
              StatusIs(absl::StatusCode::kUnavailable, HasSubstr("draining")));
}

TEST(Client, SendsARequestForAnOperationAgainUnderOneId) {
  FakeServer server;
  google::rpc::Status draining;
  draining.set_code(grpc::StatusCode::UNAVAILABLE);
  google::rpc::RetryInfo retry;
  retry.mutable_retry_delay()->set_nanos(1'000'000);
  draining.add_details()->PackFrom(retry);
  server.secateur.refusal =
      grpc::Status(grpc::StatusCode::UNAVAILABLE, "draining", draining.SerializeAsString());
  server.secateur.refusals = 6;  // more than gRPC itself tries
  server.secateur.started.set_name("operations/o");
  EXPECT_OK(server.Client().CreateExpert({}));
  const std::string id = server.secateur.expert_request.request_id();
  EXPECT_EQ(id.size(), 32U);
  EXPECT_THAT(server.secateur.request_ids, AllOf(SizeIs(7), Each(id)));
  EXPECT_OK(server.Client().CreateExpert({}));
  EXPECT_NE(server.secateur.expert_request.request_id(), id);
  v1::CreateExpertRequest own;
  own.set_request_id("mine");
  EXPECT_OK(server.Client().CreateExpert(own));
  EXPECT_EQ(server.secateur.expert_request.request_id(), "mine");
}

// Of a server that does nothing but drain.
TEST(Client, GivesAllTriesForAnOperationOneDeadline) {
  google::rpc::Status draining;
  draining.set_code(grpc::StatusCode::UNAVAILABLE);
  draining.add_details()->PackFrom(google::rpc::RetryInfo());  // at once
  std::vector<std::chrono::system_clock::time_point> deadlines;
  auto stub = std::make_shared<testing::NiceMock<v1::MockSecateurStub>>();
  EXPECT_CALL(*stub, CreateExpert).WillRepeatedly([&](auto* context, const auto&, auto*) {
    deadlines.push_back(context->deadline());
    return grpc::Status(grpc::StatusCode::UNAVAILABLE, "draining", draining.SerializeAsString());
  });
  auto connection = std::make_shared<ClientConnection>();
  connection->secateur = stub;
  connection->options.deadline = absl::Milliseconds(350);
  EXPECT_THAT(SecateurClient(connection).CreateExpert({}),
              StatusIs(absl::StatusCode::kUnavailable, HasSubstr("draining")));
  ASSERT_FALSE(deadlines.empty());
  EXPECT_THAT(deadlines, Each(deadlines[0]));
  EXPECT_LE(deadlines.size(), 4U);  // 100 ms apart at least
}

TEST(Client, GivesAPlanThatTrimsAVocabularyMoreTime) {
  std::vector<std::chrono::system_clock::time_point> deadlines;
  const auto keep_deadline = [&](auto* context, const auto&, auto*) {
    deadlines.push_back(context->deadline());
    return grpc::Status::OK;
  };
  auto stub = std::make_shared<testing::NiceMock<v1::MockSecateurStub>>();
  EXPECT_CALL(*stub, PlanExpert).WillRepeatedly(keep_deadline);
  EXPECT_CALL(*stub, CreateExpert).WillRepeatedly(keep_deadline);
  auto connection = std::make_shared<ClientConnection>();
  connection->secateur = stub;
  connection->options.deadline = absl::Seconds(30);
  v1::PlanExpertRequest request;
  EXPECT_OK(SecateurClient(connection).PlanExpert(request));
  request.mutable_spec()->add_units(v1::VOCABULARY);
  EXPECT_OK(SecateurClient(connection).PlanExpert(request));
  ASSERT_THAT(deadlines, SizeIs(2));
  EXPECT_GT(deadlines[1] - deadlines[0], std::chrono::minutes(9));
  v1::CreateExpertRequest expert;
  *expert.mutable_spec() = request.spec();
  EXPECT_OK(SecateurClient(connection).CreateExpert(expert));
  expert.set_validate_only(true);
  EXPECT_OK(SecateurClient(connection).CreateExpert(expert));
  ASSERT_THAT(deadlines, SizeIs(4));
  EXPECT_GT(deadlines[3] - deadlines[2], std::chrono::minutes(9));
}

TEST(Client, AsksSeveralServersInTurnAndGoesOnWithoutOneThatIsGone) {
  FakeServer servers[2];
  ClientOptions options;
  options.address = "ipv4:";
  for (FakeServer& server : servers) {
    server.secateur.models = Named<v1::Model>("models/m", 1);
    const std::string port = server.address().substr(server.address().rfind(':'));
    options.address += (&server == servers ? "127.0.0.1" : ",127.0.0.1") + port;
  }
  ASSERT_OK_AND_ASSIGN(const SecateurClient client, SecateurClient::Connect(options));
  const auto asked = [&servers] { return servers[0].secateur.calls * servers[1].secateur.calls; };
  for (int i = 0; i < 1000 && asked() == 0; ++i) ASSERT_OK(client.GetModel("models/m0"));
  EXPECT_GT(asked(), 0);  // both of them
  for (int i = 0; i < 4; ++i) {
    if (i == 2) servers[0].Stop();
    EXPECT_OK(client.GetModel("models/m0"));
  }
}

TEST(Client, SaysWhereNobodyAnswers) {
  FakeServer server;
  const SecateurClient client = server.Client();
  server.Stop();
  EXPECT_THAT(client.GetModel("models/m"), StatusIs(absl::StatusCode::kUnavailable));
}

// Nobody answers there: an answer could be faster than the client's timer on a busy machine.
TEST(Client, GivesUpAtItsDeadline) {
  const SilentPort port;
  ClientOptions options;
  options.address = port.address();
  options.deadline = absl::Nanoseconds(1);
  const auto client = SecateurClient::Connect(options);
  EXPECT_THAT(client->GetModel("models/m"), StatusIs(absl::StatusCode::kDeadlineExceeded));
}

TEST(Client, SendsItsToken) {
  FakeServer server;
  ClientOptions options;
  options.address = server.address();
  options.token = "s3cret";
  ASSERT_OK_AND_ASSIGN(const SecateurClient client, SecateurClient::Connect(options));
  (void)client.GetModel("models/m");
  EXPECT_THAT(server.secateur.last_metadata,
              testing::Contains(Pair("authorization", "Bearer s3cret")));
}

struct BadOptions {
  const char* name;
  void (*change)(ClientOptions&, const TempDir&);
  absl::StatusCode code;
  const char* names;
};

const BadOptions kBadOptions[] = {
    {"NoAddress", [](ClientOptions& o, const TempDir&) { o.address = ""; },
     absl::StatusCode::kInvalidArgument, "address"},
    {"NoTime", [](ClientOptions& o, const TempDir&) { o.deadline = absl::ZeroDuration(); },
     absl::StatusCode::kInvalidArgument, "deadline"},
    {"TokenOverTheNetwork",
     [](ClientOptions& o, const TempDir&) {
       o.address = "127.0.0.1.example.com:8470";
       o.token = "t";
     },
     absl::StatusCode::kInvalidArgument, "127.0.0.1.example.com:8470"},
    {"TokenWithALineBreak", [](ClientOptions& o, const TempDir&) { o.token = "a\nb"; },
     absl::StatusCode::kInvalidArgument, "printable"},
    {"CertificateWithoutAuthority",
     [](ClientOptions& o, const TempDir&) { o.cert_file = o.key_file = "x.pem"; },
     absl::StatusCode::kInvalidArgument, "ca_file"},
    {"CertificateWithoutKey",
     [](ClientOptions& o, const TempDir& dir) {
       o.ca_file = dir.Write("ca.pem", "-----BEGIN CERTIFICATE-----");
       o.cert_file = o.ca_file;
     },
     absl::StatusCode::kInvalidArgument, "key_file"},
    {"AuthorityThatIsNotThere",
     [](ClientOptions& o, const TempDir& dir) { o.ca_file = dir.Join("none.pem"); },
     absl::StatusCode::kNotFound, "none.pem"},
    {"AuthorityThatIsAFolder", [](ClientOptions& o, const TempDir& dir) { o.ca_file = dir.path(); },
     absl::StatusCode::kNotFound, "ca_file"},
    {"AuthorityThatIsNoPem",
     [](ClientOptions& o, const TempDir& dir) { o.ca_file = dir.Write("ca.pem", "hello"); },
     absl::StatusCode::kInvalidArgument, "PEM"},
    {"AuthorityThatIsHuge",
     [](ClientOptions& o, const TempDir& dir) {
       o.ca_file = dir.Write("ca.pem", std::string((1 << 20) + 1, 'x'));
     },
     absl::StatusCode::kInvalidArgument, "1 MiB"},
};

class RefusedOptions : public testing::TestWithParam<BadOptions> {};

TEST_P(RefusedOptions, NameWhatIsWrong) {
  const TempDir dir;
  ClientOptions options;
  options.address = "localhost:8470";
  GetParam().change(options, dir);
  EXPECT_THAT(SecateurClient::Connect(options),
              StatusIs(GetParam().code, HasSubstr(GetParam().names)));
}

INSTANTIATE_TEST_SUITE_P(Client, RefusedOptions, testing::ValuesIn(kBadOptions),
                         [](const auto& test) { return std::string(test.param.name); });

TEST(ClientOptions, TakeTheAddressFromTheEnvironment) {
  setenv("SECATEUR_SERVER", "example:1", 1);
  EXPECT_EQ(ClientOptions().address, "example:1");
  setenv("SECATEUR_SERVER", "", 1);
  EXPECT_EQ(ClientOptions().address, "localhost:8470");
  unsetenv("SECATEUR_SERVER");
  EXPECT_EQ(ClientOptions().address, "localhost:8470");
}

}  // namespace
}  // namespace secateur

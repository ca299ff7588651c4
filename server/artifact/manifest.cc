#include "server/artifact/manifest.h"

#include <google/protobuf/io/coded_stream.h>
#include <google/protobuf/io/zero_copy_stream_impl_lite.h>
#include <google/protobuf/util/json_util.h>

#include <nlohmann/json.hpp>

#include "secateur/v1/manifest.pb.h"
#include "server/base/digest.h"
#include "server/base/status_macros.h"
#include "server/base/strings.h"

namespace secateur {

absl::StatusOr<std::string> ManifestText(const v1::Manifest& manifest) {
  std::string text;
  const auto status = google::protobuf::util::MessageToJsonString(manifest, &text);
  if (!status.ok()) {
    return absl::InternalError(StrCat("the manifest cannot be written: ", status.ToString()));
  }
  // Protobuf prints maps in an order that changes from run to run; nlohmann::json sorts all keys.
  nlohmann::json json = nlohmann::json::parse(text);
  json["sha256"] = "";
  return SealManifest(json.dump(2) + "\n");
}

absl::StatusOr<v1::Manifest> ParseManifest(std::string_view text) {
  RETURN_IF_ERROR(CheckManifest(text));
  v1::Manifest manifest;
  const auto status = google::protobuf::util::JsonStringToMessage(
      google::protobuf::StringPiece(text.data(), text.size()), &manifest);
  if (!status.ok()) {
    return absl::DataLossError(StrCat("secateur.json is damaged: ", status.ToString()));
  }
  return manifest;
}

std::string CanonicalBytes(const google::protobuf::Message& message) {
  std::string bytes;
  {
    google::protobuf::io::StringOutputStream stream(&bytes);
    google::protobuf::io::CodedOutputStream coded(&stream);
    coded.SetSerializationDeterministic(true);
    message.SerializeToCodedStream(&coded);
  }
  return bytes;
}

std::string ExpertIdOf(const v1::ResolvedRequest& resolved) {
  return Sha256Of(CanonicalBytes(resolved)).Id('e');
}

}  // namespace secateur

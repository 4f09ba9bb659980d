"""The shape of a provider's keys in the policy file: a value, or the account at a cloud that signs in its place."""

from __future__ import annotations

from pydantic import Field, model_validator

from sluicegate.policy.fields import Id, Model, Pattern, SecretText, Text, Weight


class BedrockKeyConfig(Model):
    """How calls to Amazon Bedrock are signed, in Bifrost's words; without keys by the AWS credentials of the gateway's machine."""

    region: Text | None = Field(None, description="AWS region such as us-east-1, or env.NAME; absent: AWS_REGION, else us-east-1.")
    access_key: SecretText | None = Field(None, description="env.NAME, file:PATH, or the access key id itself.")
    secret_key: SecretText | None = Field(None, description="env.NAME, file:PATH, or the secret itself (warned about).", repr=False)
    session_token: SecretText | None = Field(None, description="env.NAME or file:PATH; for keys that expire.", repr=False)
    arn: Text | None = Field(
        None, description="What stands before the ids in deployments, as arn:aws:bedrock:...:inference-profile."
    )
    deployments: dict[Pattern, Text] = Field(
        default_factory=dict, description="Bedrock's ids of models or inference profiles, by the names that clients ask for."
    )

    @model_validator(mode="after")
    def _require_pair(self) -> BedrockKeyConfig:
        if (self.access_key is None) != (self.secret_key is None):
            raise ValueError("access_key and secret_key belong together; leave out both to use the machine's AWS credentials")
        if self.session_token is not None and self.secret_key is None:
            raise ValueError("session_token belongs to an access_key and secret_key")
        return self


class VertexKeyConfig(Model):
    """Whose tokens calls to Vertex AI carry, in Bifrost's words; by default the Google credentials of the gateway's machine."""

    project_id: Text | None = Field(None, description="The Google Cloud project that pays, or env.NAME.")
    region: Text | None = Field(None, description="Where models run: global (the default), us, eu, us-east5 ..., or env.NAME.")
    auth_credentials: SecretText | None = Field(
        None,
        description="file:PATH or env.NAME of a credentials file's JSON, such as a service account's key; absent: what google-auth "
        "finds on the machine (GOOGLE_APPLICATION_CREDENTIALS, gcloud, the metadata server).",
        repr=False,
    )


class ProviderKey(Model):
    """One of a provider's keys."""

    name: Id = Field(description="Its name in key_names, in records and on the dashboard.")
    value: SecretText | None = Field(None, description="env.NAME, file:PATH, or the key itself (warned about).", repr=False)
    weight: Weight = Field(1.0, description="Share of the calls, relative to the provider's other keys.")
    bedrock_key_config: BedrockKeyConfig | None = Field(
        None, description="The AWS account that signs calls to Amazon Bedrock, unless value is a key of Bedrock's own."
    )

    vertex_key_config: VertexKeyConfig | None = Field(
        None, description="The Google account whose tokens calls to Vertex AI carry, and its project and region."
    )

    @model_validator(mode="after")
    def _require_credential(self) -> ProviderKey:
        if self.value is None and self.bedrock_key_config is None and self.vertex_key_config is None:
            raise ValueError("a key needs a value: env.NAME or file:PATH")
        return self


ACCOUNT_SECRETS = {
    "bedrock_key_config": ("access_key", "secret_key", "session_token"),
    "vertex_key_config": ("auth_credentials",),
}
"""The secrets of a provider key's account, by the field that describes it."""

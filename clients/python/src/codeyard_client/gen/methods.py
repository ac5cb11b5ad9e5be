# Written by tools/gen_sdk.py from the protos.
"""Every method of the API: its path, its messages, and whether it may be sent again."""

from typing import Final

from codeyard_client._method import Stream, Unary
from codeyard_client.gen.codeyard.agents import v1 as agents_v1
from codeyard_client.gen.codeyard.capabilities import v1 as capabilities_v1
from codeyard_client.gen.codeyard.models import v1 as models_v1
from codeyard_client.gen.codeyard.sessions import v1 as sessions_v1
from codeyard_client.gen.codeyard.system import v1 as system_v1
from codeyard_client.gen.google import api as google_api
from codeyard_client.gen.google import protobuf as google_protobuf


class AgentService:
    """Methods of codeyard.agents.v1.AgentService."""

    CREATE_AGENT: Final = Unary(
        "/codeyard.agents.v1.AgentService/CreateAgent", agents_v1.CreateAgentRequest, agents_v1.Agent, keyed=True
    )
    LIST_AGENTS: Final = Unary(
        "/codeyard.agents.v1.AgentService/ListAgents",
        agents_v1.ListAgentsRequest,
        agents_v1.ListAgentsResponse,
        repeatable=True,
    )
    GET_AGENT: Final = Unary(
        "/codeyard.agents.v1.AgentService/GetAgent", agents_v1.GetAgentRequest, agents_v1.Agent, repeatable=True
    )
    UPDATE_AGENT: Final = Unary(
        "/codeyard.agents.v1.AgentService/UpdateAgent", agents_v1.UpdateAgentRequest, agents_v1.Agent, repeatable=True
    )
    ARCHIVE_AGENT: Final = Unary(
        "/codeyard.agents.v1.AgentService/ArchiveAgent", agents_v1.ArchiveAgentRequest, google_protobuf.Empty
    )
    LIST_AGENT_CAPABILITIES: Final = Unary(
        "/codeyard.agents.v1.AgentService/ListAgentCapabilities",
        agents_v1.ListAgentCapabilitiesRequest,
        agents_v1.ListAgentCapabilitiesResponse,
        repeatable=True,
    )
    SET_AGENT_CAPABILITIES: Final = Unary(
        "/codeyard.agents.v1.AgentService/SetAgentCapabilities",
        agents_v1.SetAgentCapabilitiesRequest,
        agents_v1.ListAgentCapabilitiesResponse,
        repeatable=True,
    )


class CapabilityService:
    """Methods of codeyard.capabilities.v1.CapabilityService."""

    LIST_CAPABILITIES: Final = Unary(
        "/codeyard.capabilities.v1.CapabilityService/ListCapabilities",
        capabilities_v1.ListCapabilitiesRequest,
        capabilities_v1.ListCapabilitiesResponse,
        repeatable=True,
    )
    GET_CAPABILITY: Final = Unary(
        "/codeyard.capabilities.v1.CapabilityService/GetCapability",
        capabilities_v1.GetCapabilityRequest,
        capabilities_v1.Capability,
        repeatable=True,
    )


class McpServerService:
    """Methods of codeyard.capabilities.v1.McpServerService."""

    CREATE_MCP_SERVER: Final = Unary(
        "/codeyard.capabilities.v1.McpServerService/CreateMcpServer",
        capabilities_v1.CreateMcpServerRequest,
        capabilities_v1.McpServer,
        keyed=True,
    )
    LIST_MCP_SERVERS: Final = Unary(
        "/codeyard.capabilities.v1.McpServerService/ListMcpServers",
        capabilities_v1.ListMcpServersRequest,
        capabilities_v1.ListMcpServersResponse,
        repeatable=True,
    )
    GET_MCP_SERVER: Final = Unary(
        "/codeyard.capabilities.v1.McpServerService/GetMcpServer",
        capabilities_v1.GetMcpServerRequest,
        capabilities_v1.McpServer,
        repeatable=True,
    )
    DELETE_MCP_SERVER: Final = Unary(
        "/codeyard.capabilities.v1.McpServerService/DeleteMcpServer",
        capabilities_v1.DeleteMcpServerRequest,
        google_protobuf.Empty,
    )


class ModelService:
    """Methods of codeyard.models.v1.ModelService."""

    CREATE_MODEL: Final = Unary(
        "/codeyard.models.v1.ModelService/CreateModel", models_v1.CreateModelRequest, models_v1.Model, keyed=True
    )
    LIST_PROVIDER_MODELS: Final = Unary(
        "/codeyard.models.v1.ModelService/ListProviderModels",
        models_v1.ListProviderModelsRequest,
        models_v1.ListProviderModelsResponse,
        repeatable=True,
    )
    LIST_MODELS: Final = Unary(
        "/codeyard.models.v1.ModelService/ListModels",
        models_v1.ListModelsRequest,
        models_v1.ListModelsResponse,
        repeatable=True,
    )
    GET_MODEL: Final = Unary(
        "/codeyard.models.v1.ModelService/GetModel", models_v1.GetModelRequest, models_v1.Model, repeatable=True
    )
    UPDATE_MODEL: Final = Unary(
        "/codeyard.models.v1.ModelService/UpdateModel", models_v1.UpdateModelRequest, models_v1.Model, repeatable=True
    )
    DELETE_MODEL: Final = Unary(
        "/codeyard.models.v1.ModelService/DeleteModel", models_v1.DeleteModelRequest, google_protobuf.Empty
    )


class ProviderService:
    """Methods of codeyard.models.v1.ProviderService."""

    CREATE_PROVIDER: Final = Unary(
        "/codeyard.models.v1.ProviderService/CreateProvider",
        models_v1.CreateProviderRequest,
        models_v1.Provider,
        keyed=True,
    )
    LIST_PROVIDERS: Final = Unary(
        "/codeyard.models.v1.ProviderService/ListProviders",
        models_v1.ListProvidersRequest,
        models_v1.ListProvidersResponse,
        repeatable=True,
    )
    GET_PROVIDER: Final = Unary(
        "/codeyard.models.v1.ProviderService/GetProvider",
        models_v1.GetProviderRequest,
        models_v1.Provider,
        repeatable=True,
    )
    UPDATE_PROVIDER: Final = Unary(
        "/codeyard.models.v1.ProviderService/UpdateProvider",
        models_v1.UpdateProviderRequest,
        models_v1.Provider,
        repeatable=True,
    )
    DELETE_PROVIDER: Final = Unary(
        "/codeyard.models.v1.ProviderService/DeleteProvider", models_v1.DeleteProviderRequest, google_protobuf.Empty
    )


class EventService:
    """Methods of codeyard.sessions.v1.EventService."""

    SUBSCRIBE: Final = Stream(
        "/codeyard.sessions.v1.EventService/Subscribe", sessions_v1.SubscribeRequest, sessions_v1.Event, repeatable=True
    )
    LIST_EVENTS: Final = Unary(
        "/codeyard.sessions.v1.EventService/ListEvents",
        sessions_v1.ListEventsRequest,
        sessions_v1.ListEventsResponse,
        repeatable=True,
    )


class MessageService:
    """Methods of codeyard.sessions.v1.MessageService."""

    CREATE_MESSAGE: Final = Unary(
        "/codeyard.sessions.v1.MessageService/CreateMessage",
        sessions_v1.CreateMessageRequest,
        sessions_v1.Message,
        keyed=True,
    )
    LIST_MESSAGES: Final = Unary(
        "/codeyard.sessions.v1.MessageService/ListMessages",
        sessions_v1.ListMessagesRequest,
        sessions_v1.ListMessagesResponse,
        repeatable=True,
    )


class SessionService:
    """Methods of codeyard.sessions.v1.SessionService."""

    CREATE_SESSION: Final = Unary(
        "/codeyard.sessions.v1.SessionService/CreateSession",
        sessions_v1.CreateSessionRequest,
        sessions_v1.Session,
        keyed=True,
    )
    LIST_SESSIONS: Final = Unary(
        "/codeyard.sessions.v1.SessionService/ListSessions",
        sessions_v1.ListSessionsRequest,
        sessions_v1.ListSessionsResponse,
        repeatable=True,
    )
    GET_SESSION: Final = Unary(
        "/codeyard.sessions.v1.SessionService/GetSession",
        sessions_v1.GetSessionRequest,
        sessions_v1.Session,
        repeatable=True,
    )
    UPDATE_SESSION: Final = Unary(
        "/codeyard.sessions.v1.SessionService/UpdateSession",
        sessions_v1.UpdateSessionRequest,
        sessions_v1.Session,
        repeatable=True,
    )
    DELETE_SESSION: Final = Unary(
        "/codeyard.sessions.v1.SessionService/DeleteSession", sessions_v1.DeleteSessionRequest, google_protobuf.Empty
    )
    CANCEL_TURN: Final = Unary(
        "/codeyard.sessions.v1.SessionService/CancelTurn",
        sessions_v1.CancelTurnRequest,
        sessions_v1.Session,
        repeatable=True,
    )


class SystemService:
    """Methods of codeyard.system.v1.SystemService."""

    GET_HEALTH: Final = Unary(
        "/codeyard.system.v1.SystemService/GetHealth",
        system_v1.GetHealthRequest,
        system_v1.GetHealthResponse,
        repeatable=True,
    )
    GET_OPEN_API: Final = Unary(
        "/codeyard.system.v1.SystemService/GetOpenApi",
        system_v1.GetOpenApiRequest,
        google_api.HttpBody,
        repeatable=True,
    )
    GET_SWAGGER_UI: Final = Unary(
        "/codeyard.system.v1.SystemService/GetSwaggerUi",
        system_v1.GetSwaggerUiRequest,
        google_api.HttpBody,
        repeatable=True,
    )

-- The Lua filter of the gateway. The compiler puts the table GATEWAY in front of this file.
--
-- Request: takes away what only the server may say, checks origin and content type, turns HEAD into GET and picks the
-- JSON twin of a stream. Response: status, errors, unwrapped and empty bodies, 405.
--
-- Rules of Envoy's Lua that shape this code: body() suspends the script and every object fetched before is dead after it;
-- a script error lets the message pass as it is; nothing is shared between the two phases but dynamic metadata.

local PRIVATE = {
  ["x-http-code"] = true, ["x-unwrap"] = true, ["x-error-body"] = true, ["x-head"] = true,
  ["x-upload-length"] = true, ["x-content-length"] = true,
}

local GRPC_ANSWER = {"grpc-status", "grpc-message", "grpc-status-details-bin", "grpc-accept-encoding", "grpc-encoding"}

local CODES = {
  ["400"] = {"INVALID_ARGUMENT", "The request is not valid."},
  ["401"] = {"UNAUTHENTICATED", "A valid credential is required."},
  ["403"] = {"PERMISSION_DENIED", "This is not allowed."},
  ["404"] = {"NOT_FOUND", "There is no such object."},
  ["405"] = {"METHOD_NOT_ALLOWED", "The path does not take this method."},
  ["409"] = {"ALREADY_EXISTS", "The object exists already."},
  ["413"] = {"TOO_LARGE", "The request body is too large."},
  ["415"] = {"UNSUPPORTED_MEDIA_TYPE", "The content type of the request body must be application/json."},
  ["421"] = {"HOST_UNKNOWN", "This installation does not answer to this host name."},
  ["429"] = {"RATE_LIMITED", "There are too many requests."},
  ["499"] = {"CANCELLED", "The request was cancelled."},
  ["501"] = {"UNIMPLEMENTED", "This is not implemented."},
  ["503"] = {"UNAVAILABLE", "The service cannot be reached at the moment."},
  ["504"] = {"DEADLINE_EXCEEDED", "The service did not answer in time."},
}
local INTERNAL = {"INTERNAL", "The server failed to answer."}

-- The path without its query, with exactly one slash at its end: the form that the patterns match.
local function bare(path)
  local plain = path:match("^[^?#]*")
  if plain:sub(-1) ~= "/" then
    plain = plain .. "/"
  end
  return plain
end

local function find_route(verb, plain)
  for _, route in ipairs(GATEWAY.routes) do
    if (verb == nil or route.verb == verb) and plain:find(route.pattern) then
      return route
    end
  end
  return nil
end

local function matches_any(patterns, plain)
  for _, pattern in ipairs(patterns) do
    if plain:find(pattern) then
      return true
    end
  end
  return false
end

local function shape_of(path)
  local first, second = path:match("^(/[^/?#]*)(/?[^/?#]*)")
  local shape = first and (GATEWAY.shapes[first .. second] or GATEWAY.shapes[first])
  if shape == "mixed" then
    local route = find_route(nil, bare(path))
    shape = route and route.shape
  end
  return shape or "flat"
end

-- All texts come from this file, so none needs escaping.
local function error_body(shape, status, code, text)
  if shape == "nested" then
    return '{"error":{"code":"' .. code .. '","message":"' .. text .. '"}}'
  end
  return '{"error":"' .. text .. '","status":' .. status .. ',"code":"' .. code .. '"}'
end

local function generic_error(shape, status)
  local known = CODES[status] or (status:sub(1, 1) == "4" and CODES["400"]) or INTERNAL
  return error_body(shape, status, known[1], known[2])
end

-- Answer from here. Callers of gRPC and gRPC-web read grpc-status and grpc-message, and no JSON.
local function refuse(handle, request, status, text)
  local known = CODES[status]
  local body = text or known[2]
  local headers = {[":status"] = status}
  if request.family == "grpc" then
    headers["grpc-status"], headers["grpc-message"] = "7", body
  else
    body = error_body(request.family, status, known[1], body)
    headers["content-type"] = "application/json"
  end
  request.family = "own"
  handle:streamInfo():dynamicMetadata():set("gateway", "request", request)
  handle:respond(headers, body)
end

local function without_default_port(authority)
  return (authority:lower():gsub(":80$", ""):gsub(":443$", ""))
end

-- Whether a browser page of another origin is behind this call. Without an Origin header there is no page.
local function is_foreign(headers)
  local origin = headers:get("origin")
  if origin == nil or GATEWAY.origins[origin:lower()] then
    return false
  end
  local host = origin:match("^https?://([^/]+)$")
  return host == nil or without_default_port(host) ~= without_default_port(headers:get(":authority") or "")
end

-- What only gRPC callers may say: the transcoder speaks plain gRPC with a deadline of the route, and a -bin value that is
-- not base64 would fail in the server. It also fails at names that HTTP allows and gRPC does not, such as "a*b".
local function is_harmful(name, grpc)
  if PRIVATE[name] or name:sub(1, 8) == "x-envoy-" or not name:find("^:?[%w_.-]+$") then
    return true
  end
  return not grpc and (name:sub(1, 5) == "grpc-" or name:sub(-4) == "-bin")
end

local function strip_harmful(headers, grpc)
  local names = {}
  for name, _ in pairs(headers) do
    if is_harmful(name, grpc) then
      names[#names + 1] = name
    end
  end
  for _, name in ipairs(names) do
    headers:remove(name)
  end
end

-- Envoy made a fresh id; the client's own, put aside by the connection manager, takes its place if it is sane.
local function choose_request_id(headers)
  local wanted = headers:get("x-client-request-id")
  if wanted == nil then
    return
  end
  headers:remove("x-client-request-id")
  if #wanted <= 128 and wanted:find("^[%w._-]+$") then
    headers:replace("x-request-id", wanted)
  end
end

local function is_json(content_type)
  local type = content_type:lower():match("^%s*([^;%s]+)")
  return type == "application/json" or (type ~= nil and type:find("^application/[%w.+-]*%+json$") ~= nil)
end

local BODY_VERBS = {POST = true, PUT = true, PATCH = true}

-- Whether the request announces a body. HTTP/2 need not say; then a verb that usually has one counts.
local function announces_body(headers, verb)
  local length = headers:get("content-length")
  if length ~= nil then
    return length ~= "0"
  end
  return headers:get("transfer-encoding") ~= nil or BODY_VERBS[verb] == true
end

-- Returns the status that refuses the request for its body, or nil.
local function refused_body(headers, verb, path)
  local type = headers:get("content-type")
  if type ~= nil and is_json(type) then
    return nil
  end
  local length = tonumber(headers:get("content-length") or "")
  if type == nil and (length or 0) == 0 then
    return nil
  end
  if not announces_body(headers, verb) then
    return nil
  end
  local route = find_route(verb, bare(path))
  if route == nil then
    return nil
  end
  if not route.raw then
    return "415"
  end
  return length and length > route.limit and "413" or nil
end

local function unescape(text)
  return (text:gsub("%%(%x%x)", function(hex) return string.char(tonumber(hex, 16)) end))
end

-- Whether a query parameter would override a path parameter. The transcoder ignores the reserved names, but only as they
-- are spelled, and decodes afterwards: "%69d" would pass for "id". A name that is a query parameter elsewhere is not among
-- the ignored; whether it is in this path only the route tells.
local function overrides_path(raw, verb, path)
  local name = unescape(raw):gsub("_", ""):lower()
  if GATEWAY.ambiguous[name] then
    local route = find_route(verb, bare(path))
    return route ~= nil and route.parameters ~= nil and route.parameters[name] == true
  end
  return GATEWAY.reserved[name] == true
end

local function guarded_query(verb, path)
  local start = path:find("?", 1, true)
  if start == nil then
    return path
  end
  local kept, dropped = {}, false
  for pair in path:sub(start + 1):gmatch("[^&]+") do
    if overrides_path(pair:match("^[^=]*"), verb, path) then
      dropped = true
    else
      kept[#kept + 1] = pair
    end
  end
  if not dropped then
    return path
  end
  return path:sub(1, start - 1) .. (#kept > 0 and "?" .. table.concat(kept, "&") or "")
end

local function wants_json(accept)
  if accept == nil then
    return false
  end
  accept = accept:lower()
  return accept:find("application/json", 1, true) and not accept:find("text/event-stream", 1, true)
end

-- Rewrites method and path for the transcoder. Returns whether anything changed.
local function rewrite(headers, request)
  local verb, path = request.verb, request.path
  if path:sub(1, #GATEWAY.json_prefix) == GATEWAY.json_prefix then
    headers:replace(":path", "/~")
    return true
  end
  local wanted = guarded_query(verb, path)
  if verb == "GET" and wants_json(headers:get("accept")) and matches_any(GATEWAY.json_twins, bare(path)) then
    wanted = GATEWAY.json_prefix .. wanted
  elseif verb == "HEAD" then
    local route = find_route("GET", bare(path))
    -- A HEAD on an endless stream would wait for its end.
    if route and not route.sse then
      headers:replace(":method", "GET")
      headers:add("x-head", "1")
      request.head = true
    end
  end
  if wanted ~= path then
    headers:replace(":path", wanted)
  end
  return wanted ~= path or request.head == true
end

function envoy_on_request(handle)
  local headers = handle:headers()
  local path, verb = headers:get(":path") or "/", headers:get(":method")
  local request = {verb = verb, path = path}
  local type = headers:get("content-type")
  local grpc = type ~= nil and type:find("^application/grpc") ~= nil
  local upgrade = headers:get("upgrade") ~= nil
  strip_harmful(headers, grpc)
  choose_request_id(headers)
  request.family = grpc and "grpc" or shape_of(path)
  request.upgrade = upgrade or nil
  local safe = (verb == "GET" or verb == "HEAD" or verb == "OPTIONS") and not upgrade
  if not safe and is_foreign(headers) then
    -- A page may send what it has a credential for; what the browser adds by itself is not the page's to use.
    if upgrade or headers:get("cookie") ~= nil or headers:get("authorization") == nil then
      return refuse(handle, request, "403", "Pages of this origin may not call this installation.")
    end
  end
  if not grpc and not upgrade then
    local refused = refused_body(headers, verb, path)
    if refused then
      return refuse(handle, request, refused)
    end
    local length = headers:get("content-length")
    if length ~= nil then
      headers:add("x-upload-length", length)
    end
    if rewrite(headers, request) then
      handle:clearRouteCache()
    end
  end
  handle:streamInfo():dynamicMetadata():set("gateway", "request", request)
end

-- Return a header and take it away; most are absent, and looking is cheaper than removing.
local function take(headers, name)
  local value = headers:get(name)
  if value ~= nil then
    headers:remove(name)
  end
  return value
end

local function set_json(handle, text)
  handle:body(true):setBytes(text)
  handle:headers():replace("content-type", "application/json")
end

-- A 404 of the router: nothing serves this verb on this path. Other verbs may.
local function method_not_allowed(handle, headers, request)
  local plain = bare(request.path)
  local allowed, seen = {}, {}
  for _, route in ipairs(GATEWAY.routes) do
    if not seen[route.verb] and plain:find(route.pattern) then
      seen[route.verb] = true
      allowed[#allowed + 1] = route.verb
      if route.verb == "GET" and not route.sse then
        allowed[#allowed + 1] = "HEAD"
      end
    end
  end
  if #allowed > 0 then
    headers:replace(":status", "405")
    headers:replace("allow", table.concat(allowed, ", "))
    if request.verb ~= "HEAD" then
      set_json(handle, generic_error(request.family, "405"))
    end
  elseif request.verb == "GET" and matches_any(GATEWAY.sockets, plain) then
    headers:replace(":status", "400")
    set_json(handle, error_body(request.family, "400", "INVALID_ARGUMENT", "This path takes WebSocket upgrades only."))
  end
end

-- The transcoder made a body from the gRPC status, with the server's own words in it; none of them goes out.
local function server_error(handle, request, status, body)
  local converted = handle:body(true)
  if body == nil then
    -- gRPC's own limit on a message is one on the request body to the caller.
    local text = converted:getBytes(0, math.min(converted:length(), 512))
    if status == "429" and text:find("larger than max", 1, true) then
      status = "413"
    end
    body = generic_error(request.family, status)
  end
  converted:setBytes(request.head and "" or body)
  local headers = handle:headers()
  headers:replace(":status", status)
  headers:replace("content-type", "application/json")
  headers:replace("content-length", tostring(#body))
end

local function without_body(handle, status)
  handle:body(true):setBytes("")
  local headers = handle:headers()
  headers:remove("content-type")
  if status == "204" then
    headers:remove("content-length")
  else
    headers:replace("content-length", "0")
  end
end

local function head_only(handle, announced)
  local body = handle:body(true)
  local length = announced or tostring(body:length())
  body:setBytes("")
  handle:headers():replace("content-length", length)
end

-- {"items":[...]} becomes [...]: the message has this one field, and the transcoder prints it always.
local function unwrap(handle, member, head)
  local body = handle:body(true)
  local start = #member + 4
  local text = body:getBytes(start, body:length() - start - 1)
  if head then
    body:setBytes("")
    handle:headers():replace("content-length", tostring(#text))
  else
    body:setBytes(text)
  end
end

local function server_answer(handle, request, status, member, length)
  if status == "204" or status:sub(1, 1) == "3" then
    without_body(handle, status)
  elseif member ~= nil then
    unwrap(handle, member, request.head)
  elseif request.head then
    head_only(handle, length)
  elseif length ~= nil then
    handle:headers():replace("content-length", length)
  end
end

function envoy_on_response(handle)
  local headers = handle:headers()
  local request = (handle:streamInfo():dynamicMetadata():get("gateway") or {}).request
  local served = take(headers, "x-envoy-upstream-service-time") ~= nil
  if request == nil or request.family == "own" then
    return
  end
  local code, member = take(headers, "x-http-code"), take(headers, "x-unwrap")
  local length, body = take(headers, "x-content-length"), take(headers, "x-error-body")
  if request.family == "grpc" then
    return
  end
  local status = headers:get(":status")
  if not served then
    if status == "404" and not request.upgrade then
      method_not_allowed(handle, headers, request)
    end
    return
  end
  if request.upgrade then
    return
  end
  for _, name in ipairs(GRPC_ANSWER) do
    take(headers, name)
  end
  local failed = status ~= "200"
  if code ~= nil and code:find("^[2-5]%d%d$") then
    status = code
    headers:replace(":status", status)
  end
  if failed then
    server_error(handle, request, status, body)
  else
    server_answer(handle, request, status, member, length)
  end
end

// The plugin of ../plugin.rs in AssemblyScript: ABI 0.2.0, another allocator, WASI by its old name.
export * from "@solo-io/proxy-runtime/proxy";
import {
  Context, FilterDataStatusValues, FilterHeadersStatusValues, HeaderPair, Headers, LogLevelValues,
  RootContext, continue_request, log, registerRootContext, send_local_response, stream_context,
} from "@solo-io/proxy-runtime";
import {
  BufferTypeValues, GrpcStatusValues, get_buffer_bytes, set_tick_period_milliseconds,
} from "@solo-io/proxy-runtime/runtime";

// The runtime has no function for it.
// @ts-ignore: a decorator of AssemblyScript
@external("env", "proxy_set_buffer_bytes")
declare function proxy_set_buffer_bytes(kind: u32, start: u32, size: u32, ptr: usize, len: usize): u32;

const NAME = "third";

function pair(name: string, value: string): HeaderPair {
  return new HeaderPair(String.UTF8.encode(name), String.UTF8.encode(value));
}

function refuse(by: string, body: string): void {
  const headers: Headers = [pair("x-refused-by", by)];
  send_local_response(403, "", String.UTF8.encode(body), headers, GrpcStatusValues.Unknown);
}

class Root extends RootContext {
  ticks: u32 = 0;

  onConfigure(size: u32): bool {
    const text = get_buffer_bytes(BufferTypeValues.PluginConfiguration, 0, size);
    log(LogLevelValues.info, "configured as " + String.UTF8.decode(text));
    set_tick_period_milliseconds(1000);
    return true;
  }

  onTick(): void {
    this.ticks += 1;
    log(LogLevelValues.info, "tick " + this.ticks.toString());
  }

  createContext(id: u32): Context {
    return new Filter(id, this);
  }
}

class Filter extends Context {
  constructor(id: u32, root: Root) {
    super(id, root);
  }

  onRequestHeaders(count: u32, end_of_stream: bool): FilterHeadersStatusValues {
    const path = stream_context.headers.request.get(":path");
    if (path == "/refused") {
      refuse(NAME, "refused");
      return FilterHeadersStatusValues.StopIteration;
    }
    if (path == "/ask") {
      const headers: Headers =
        [pair(":method", "GET"), pair(":path", "/verdict"), pair(":authority", "judge")];
      const sent = this.root_context.httpCall(
        "backend", headers, new ArrayBuffer(0), [], 1000, this,
        (origin: Context, headers: u32, size: usize, trailers: u32): void => {
          const body = get_buffer_bytes(BufferTypeValues.HttpCallResponseBody, 0, size as u32);
          const verdict = String.UTF8.decode(body);
          log(LogLevelValues.info, "verdict: " + verdict);
          if (verdict == "yes") continue_request(); else refuse("judge", "judged");
        });
      log(LogLevelValues.info, sent == 0 ? "asked: true" : "asked: false");
      return FilterHeadersStatusValues.StopIteration;
    }
    stream_context.headers.request.add("x-plugin", NAME);
    return FilterHeadersStatusValues.Continue;
  }

  onResponseHeaders(count: u32, end_of_stream: bool): FilterHeadersStatusValues {
    stream_context.headers.response.add("x-served-through", NAME);
    stream_context.headers.response.remove("content-length");
    return FilterHeadersStatusValues.Continue;
  }

  onResponseBody(size: usize, end_of_stream: bool): FilterDataStatusValues {
    if (!end_of_stream) return FilterDataStatusValues.StopIterationAndBuffer;
    const body = String.UTF8.decode(get_buffer_bytes(BufferTypeValues.HttpResponseBody, 0, size as u32));
    if (body == "replace me") {
      const text = String.UTF8.encode("replaced");
      proxy_set_buffer_bytes(1, 0, size as u32, changetype<usize>(text), text.byteLength);
    }
    return FilterDataStatusValues.Continue;
  }

  onLog(): void {
    log(LogLevelValues.info, "over");
  }
}

registerRootContext((id: u32) => { return new Root(id); }, "");

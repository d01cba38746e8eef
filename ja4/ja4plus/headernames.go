package ja4plus

import (
	"strings"
	"sync"

	"golang.org/x/net/http2/hpack"
)

// staticFields returns the static table of HPACK (RFC 7541 appendix A), index
// 0 being none. The library has it but does not show it: it is asked for each.
var staticFields = sync.OnceValue(func() []hpack.HeaderField {
	const fields = 61
	table := make([]hpack.HeaderField, 1, 1+fields)
	decoder := hpack.NewDecoder(0, func(f hpack.HeaderField) { table = append(table, f) })
	for i := range byte(fields) {
		// An index is below 127 and so fits its byte: there is no error.
		decoder.Write([]byte{0x80 | (i + 1)})
	}
	return table
})

// commonNames are what a headerTable says in one byte, besides the names of
// the static table: what browsers, gRPC and proxies send. A name may be added
// at the end at will; nothing of it is stored.
const commonNames = `
accept-encoding accept-language alt-svc cache-control connection content-digest content-security-policy
cross-origin-resource-policy device-memory dnt downlink dpr early-data ect expect-ct
grpc-accept-encoding grpc-encoding grpc-message-type grpc-status grpc-timeout grpc-trace-bin grpc-tags-bin grpc-previous-rpc-attempts
if-match keep-alive last-event-id origin pragma priority proxy-authorization purpose
rtt save-data sec-ch-dpr sec-ch-prefers-color-scheme sec-ch-prefers-reduced-motion sec-ch-ua sec-ch-ua-arch sec-ch-ua-bitness
sec-ch-ua-form-factors sec-ch-ua-full-version sec-ch-ua-full-version-list sec-ch-ua-mobile sec-ch-ua-model sec-ch-ua-platform
sec-ch-ua-platform-version sec-ch-ua-wow64 sec-ch-viewport-width sec-ch-width sec-fetch-dest sec-fetch-mode sec-fetch-site sec-fetch-storage-access
sec-fetch-user sec-gpc sec-purpose service-worker-navigation-preload te trailer upgrade-insecure-requests viewport-width width
forwarded x-forwarded-for x-forwarded-host x-forwarded-port x-forwarded-prefix x-forwarded-proto x-forwarded-server x-forwarded-client-cert
x-real-ip x-request-id x-request-start x-correlation-id x-client-ip x-cluster-client-ip cf-connecting-ip cf-ipcountry cf-ray cf-visitor cdn-loop
true-client-ip x-amzn-trace-id x-amz-cf-id x-amz-date x-amz-content-sha256 x-amz-security-token x-cloud-trace-context
traceparent tracestate baggage b3 x-b3-traceid x-b3-spanid x-b3-parentspanid x-b3-sampled x-b3-flags uber-trace-id
x-ot-span-context x-datadog-trace-id x-datadog-parent-id x-datadog-sampling-priority x-datadog-origin x-datadog-tags
x-envoy-attempt-count x-envoy-expected-rq-timeout-ms x-envoy-external-address x-envoy-internal x-envoy-original-path
x-envoy-decorator-operation x-envoy-peer-metadata x-envoy-peer-metadata-id
x-api-key x-auth-token x-authorization x-client-data x-csrf-token x-xsrf-token x-csrftoken x-requested-with x-goog-api-client x-goog-api-key
x-goog-authuser x-goog-request-params x-goog-user-project x-ms-client-request-id x-ms-date x-ms-version x-user-agent x-user-id x-session-id x-tenant-id
x-http-method-override x-device-id x-app-version x-platform x-grpc-web http2-settings idempotency-key
`

// headerNames are names by number, from 1, and what they are for.
type headerNames struct {
	names   [][]byte
	roles   []fieldRole
	numbers map[string]uint8
	static  [][]byte // names of the static table, by index
}

// commonHeaders returns the common names.
var commonHeaders = sync.OnceValue(func() *headerNames {
	const most = 256
	c := new(headerNames)
	c.numbers = make(map[string]uint8, most)
	c.names, c.roles = make([][]byte, 1, most), make([]fieldRole, 1, most)
	add := func(name string) {
		if _, known := c.numbers[name]; known || len(c.names) == most {
			return
		}
		c.numbers[name] = uint8(len(c.names))
		c.names = append(c.names, []byte(name))
		c.roles = append(c.roles, roleOf([]byte(name)))
	}
	for _, f := range staticFields()[1:] {
		add(f.Name)
	}
	for _, f := range staticFields() {
		c.static = append(c.static, c.names[c.numbers[f.Name]])
	}
	for name := range strings.FieldsSeq(commonNames) {
		add(name)
	}
	return c
})

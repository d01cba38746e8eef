package ja4plus

import (
	"strconv"
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
// the static table: what browsers, gRPC and proxies send. No number outlives
// the program, so that the list may change at will.
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

// commonFields are fields of which a headerTable says the size of the value,
// too, in the same byte: the many that the same few values of one size fill.
const commonFields = `
accept 3, accept-encoding 4 13 17 23, cache-control 8 9, content-length 1 2 3 4, content-type 16 22 33, dnt 1, pragma 8, priority 3 6,
grpc-accept-encoding 4 21, grpc-encoding 4, grpc-timeout 2 3 4 5 6, te 8, sec-ch-ua-mobile 2, sec-ch-ua-platform 7 9,
sec-fetch-dest 4 5 6 8, sec-fetch-mode 4 7 8, sec-fetch-site 4 9 10 11, sec-fetch-user 2, upgrade-insecure-requests 1,
traceparent 55, x-b3-sampled 1, x-b3-spanid 16, x-b3-traceid 16 32, x-correlation-id 36, x-request-id 32 36, x-requested-with 14
`

// headerNames are names by number, from 1, and what they are for.
type headerNames struct {
	names  [][]byte
	roles  []fieldRole
	values []int    // bytes of the value, less than 0 when they vary
	static [][]byte // names of the static table, by index

	numbers map[fieldForm]uint8
}

// fieldForm is a name and the length of the value, less than 0 for any.
type fieldForm struct {
	name  string
	value int
}

// number returns the number of a field's form, or 0, and whether it says the
// length of the value.
func (c *headerNames) number(name []byte, value int) (number uint8, all bool) {
	if number = c.numbers[fieldForm{string(name), value}]; number != 0 {
		return number, true
	}
	return c.numbers[fieldForm{string(name), -1}], false
}

// commonHeaders returns the common names.
var commonHeaders = sync.OnceValue(func() *headerNames {
	const most = 256
	c := &headerNames{numbers: make(map[fieldForm]uint8, most), names: make([][]byte, 1, most), roles: make([]fieldRole, 1, most), values: make([]int, 1, most)}
	add := func(name string, value int) {
		form := fieldForm{name, value}
		if c.numbers[form] != 0 || len(c.names) == most {
			return
		}
		c.numbers[form] = uint8(len(c.names))
		c.names = append(c.names, []byte(name))
		c.roles = append(c.roles, roleOf([]byte(name)))
		c.values = append(c.values, value)
	}
	for _, f := range staticFields()[1:] {
		add(f.Name, -1)
	}
	for _, f := range staticFields() {
		c.static = append(c.static, c.names[c.numbers[fieldForm{f.Name, -1}]])
	}
	for name := range strings.FieldsSeq(commonNames) {
		add(name, -1)
	}
	for field := range strings.SplitSeq(commonFields, ",") {
		words := strings.Fields(field)
		for _, word := range words[1:] {
			value, _ := strconv.Atoi(word)
			add(words[0], value)
		}
	}
	return c
})

// Package filter decides which connections somebody asked for.
//
// A Filter is made once, from a line of text such as
//
//	src:10.0.0.0/8 dst.port:443 ja4:t13d* -port:53 bad:true bytes:>=1000
//
// from typed messages (whorl.v1.ConnectionFilter), or from both, and then asked
// about any number of connections. Words are joined by AND, the values of one
// word, separated by commas, by OR; a leading - negates a word. It is the same
// language in queries, on the feed and on the command line.
//
// There are no regular expressions and no nesting: a match takes time linear in
// the filter and in the connection, and does not allocate. Filters come from
// outside, so their length and the number of their values are bounded, and every
// Error says where in the text, or in which field, the mistake is.
package filter

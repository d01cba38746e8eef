// Package planted holds bugs that tests put into the collector on purpose, to
// show that the tests of its promises would notice them.
//
// Without the build tag whorl_planted every switch is the constant false and
// costs nothing. With the tag the environment variable WHORL_PLANTED names the
// one that is on. Such a build is for the fault suite alone.
package planted

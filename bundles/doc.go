// Package bundles is the sealed parcel: the set of files that one release
// consists of, its digest, and its limits.
//
// A [Content] is immutable. Its digest depends on the paths and the bytes of
// the files and on nothing else, so the same commit gives the same digest
// anywhere. Bytes from outside enter through [NewContent] and
// [ReadFS], which refuse paths that leave the folder and content over the
// limits.
package bundles

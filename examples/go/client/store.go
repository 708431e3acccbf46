package client

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"

	pb "example.com/assetlane/assetlanev1"
)

const putAttempts = 5

// StoreRefused is what the store answered to a PUT or GET that it did not carry out.
type StoreRefused struct{ Status int }

// Error returns a sentence; it never shows the URL, which is a secret.
func (s *StoreRefused) Error() string { return fmt.Sprintf("the store answered %d", s.Status) }

// Stale reports whether a freshly signed URL may help.
func (s *StoreRefused) Stale() bool { return s.Status == http.StatusForbidden }

func newWeb() *http.Client {
	return &http.Client{Transport: &http.Transport{
		DialContext:           (&net.Dialer{Timeout: 15 * time.Second}).DialContext,
		ResponseHeaderTimeout: 2 * time.Minute,
		DisableCompression:    true, // the bytes as they are stored
	}}
}

// Put sends a file to the store exactly as it was signed, and again when the store or the way there is at fault.
// The error is a *StoreRefused when the store refused the object.
func (c *Client) Put(ctx context.Context, target *pb.PresignedRequest, path string) error {
	for failures := 0; ; failures++ {
		code, err := c.put(ctx, target, path)
		switch {
		case err == nil && code < 300:
			return nil
		case code == http.StatusPreconditionFailed:
			return nil // an earlier try arrived after all; CompleteUpload proves that it is the right object
		case err == nil && !worthAnotherTry(code):
			return &StoreRefused{code}
		case failures+1 == putAttempts || !pause(ctx, failures, 0):
			if err == nil {
				err = &StoreRefused{code}
			}
			return err
		}
	}
}

func (c *Client) put(ctx context.Context, target *pb.PresignedRequest, path string) (int, error) {
	file, err := os.Open(path)
	if err != nil {
		return 0, err
	}
	defer file.Close()
	// NewRequest keeps the URL's own escapes; do not take it apart and put it together again.
	request, err := http.NewRequestWithContext(ctx, target.Method, target.Url, file)
	if err != nil {
		return 0, withoutURL(err)
	}
	for name, value := range target.Headers {
		if strings.EqualFold(name, "content-length") { // a field in Go; as a header it is ignored
			if request.ContentLength, err = strconv.ParseInt(value, 10, 64); err != nil {
				return 0, err
			}
			continue
		}
		request.Header.Set(name, value)
	}
	if request.ContentLength == 0 {
		request.Body = http.NoBody // else Go takes 0 for "unknown" and sends chunks
	}
	response, err := c.web.Do(request)
	if err != nil {
		return 0, withoutURL(err)
	}
	defer response.Body.Close()
	_, _ = io.Copy(io.Discard, io.LimitReader(response.Body, 1<<16)) // so that the connection can be used again
	return response.StatusCode, nil
}

func worthAnotherTry(code int) bool {
	switch code {
	case http.StatusRequestTimeout, http.StatusConflict, http.StatusTooManyRequests:
		return true
	}
	return code >= 500
}

// Content is what stands behind a read URL.
type Content struct {
	SizeBytes int64
	SHA256    []byte
}

// Read reads what stands behind a read URL and returns its length and SHA-256. A *StoreRefused is what the store says.
func (c *Client) Read(ctx context.Context, readURL string) (Content, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, readURL, nil)
	if err != nil {
		return Content{}, withoutURL(err)
	}
	response, err := c.web.Do(request)
	if err != nil {
		return Content{}, withoutURL(err)
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return Content{}, &StoreRefused{response.StatusCode}
	}
	digest := sha256.New()
	size, err := io.Copy(digest, response.Body)
	return Content{size, digest.Sum(nil)}, err
}

// Promise describes a file as RequestUpload wants it: the store will refuse any other bytes.
func Promise(path, contentType string) (*pb.VariantPromise, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	digest := sha256.New()
	size, err := io.Copy(digest, file)
	if err != nil {
		return nil, err
	}
	return &pb.VariantPromise{
		Name: "original", ContentType: contentType, SizeBytes: size, Sha256: digest.Sum(nil),
	}, nil
}

// withoutURL takes the URL out of an error of net/http, which would show it: anybody who reads it could use it.
func withoutURL(err error) error {
	var wrapped *url.Error
	if errors.As(err, &wrapped) {
		return wrapped.Err
	}
	return err
}

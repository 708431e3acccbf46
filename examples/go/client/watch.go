package client

import (
	"context"
	"errors"
	"io"

	pb "example.com/assetlane/assetlanev1"
)

// Watch passes on every status change of an upload after a revision, once and in order, and returns after the final
// one. It goes on by itself when the connection or the server is lost: the last revision seen is all it takes.
func (c *Client) Watch(ctx context.Context, uploadID string, after int64, handle func(*pb.StatusEvent)) error {
	for failures := 0; ; failures++ {
		seen := after
		err := c.watch(ctx, uploadID, &after, handle)
		if err == nil {
			return nil
		}
		refusal := refusalOf(err)
		if seen != after {
			failures = 0 // something came: begin again with the shortest pause
		}
		if !refusal.Temporary() || !pause(ctx, failures, refusal.RetryAfter) {
			return refusal
		}
	}
}

func (c *Client) watch(ctx context.Context, uploadID string, after *int64, handle func(*pb.StatusEvent)) error {
	ctx, cancel := context.WithCancel(ctx) // a stream that is not read to its end must be cancelled
	defer cancel()
	stream, err := c.Uploads.WatchUpload(ctx, &pb.WatchUploadRequest{
		Target:        &pb.WatchUploadRequest_UploadId{UploadId: uploadID},
		AfterRevision: *after,
	})
	if err != nil {
		return err
	}
	for {
		response, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		// Heartbeats, progress and kinds of a later server are not for us.
		if status := response.GetStatus(); status != nil {
			*after = status.Upload.Revision
			handle(status)
		}
	}
}

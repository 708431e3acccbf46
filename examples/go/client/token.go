package client

import (
	"context"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	pb "example.com/assetlane/assetlanev1"
)

// TokenForUpload makes a scoped token for one upload: a device that has it can watch, complete and cancel that upload
// and nothing else. Only a service caller of the server's policy makes tokens. A new upload brings one along: set
// RequestUploadRequest.IssueToken. A lifetime of 0 is the server's default.
func (c *Client) TokenForUpload(ctx context.Context, uploadID string, lifetime time.Duration) (*pb.ScopedToken, error) {
	return c.createToken(ctx, lifetime, &pb.CreateTokenRequest{
		Scope: &pb.CreateTokenRequest_UploadId{UploadId: uploadID},
	})
}

// TokenForPartitions makes a scoped token for a user's uploads, and the assets in the partitions of the scope.
func (c *Client) TokenForPartitions(
	ctx context.Context, uid string, scope *pb.PartitionScope, lifetime time.Duration,
) (*pb.ScopedToken, error) {
	return c.createToken(ctx, lifetime, &pb.CreateTokenRequest{
		Uid:   uid,
		Scope: &pb.CreateTokenRequest_Partitions{Partitions: scope},
	})
}

func (c *Client) createToken(
	ctx context.Context, lifetime time.Duration, request *pb.CreateTokenRequest,
) (*pb.ScopedToken, error) {
	if lifetime != 0 {
		request.Lifetime = durationpb.New(lifetime)
	}
	reply, err := Call(ctx, CallLimit, c.Access.CreateToken, request)
	return reply.GetToken(), err
}

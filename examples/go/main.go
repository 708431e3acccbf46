// Command assetlane brings one file in, watches it arrive, reads it back, and renews its read URLs.
//
//	go run . ../dusk.jpg
package main

//go:generate buf generate

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"mime"
	"os"
	"os/signal"
	"path/filepath"
	"strings"

	pb "example.com/assetlane/assetlanev1"
	"example.com/assetlane/client"
)

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: go run . FILE")
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, os.Args[1]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(ctx context.Context, path string) error {
	connection, err := client.Dial()
	if err != nil {
		return err
	}
	defer connection.Close()

	asset, err := bringIn(ctx, connection, path)
	if err != nil {
		return err
	}
	for i, variant := range asset.Variants {
		content, err := connection.Read(ctx, variant.ReadUrl)
		if err != nil {
			return fmt.Errorf("reading %s: %w", variant.Name, err)
		}
		if !bytes.Equal(content.SHA256, variant.Sha256) && (i == 0 || len(variant.Sha256) > 0) {
			return fmt.Errorf("%s came back as other bytes", variant.Name)
		}
		fmt.Printf("  %-9s %s, %d x %d, %d bytes, read back\n",
			variant.Name, variant.ContentType, variant.WidthPx, variant.HeightPx, content.SizeBytes)
	}

	// Read URLs run out. A refresh gives new ones, for everybody.
	refreshed, err := client.Call(ctx, client.CallLimit, connection.Assets.RefreshAsset,
		&pb.RefreshAssetRequest{AssetId: asset.AssetId})
	if err != nil {
		return err
	}
	fmt.Printf("asset %s reads until %s\n", asset.AssetId, refreshed.Asset.ExpireTime.AsTime())
	return nil
}

// bringIn takes a file through the whole life of an upload.
func bringIn(ctx context.Context, connection *client.Client, path string) (*pb.Asset, error) {
	contentType := mime.TypeByExtension(filepath.Ext(path))
	if contentType == "" {
		contentType = "application/octet-stream"
	}
	promise, err := client.Promise(path, contentType)
	if err != nil {
		return nil, err
	}
	request := &pb.RequestUploadRequest{
		RequestId: rand.Text(), // makes the call safe to repeat; keep it to go on after a crash
		Uid:       connection.UID,
		FilePath:  "examples/go/" + filepath.Base(path),
		Variants:  []*pb.VariantPromise{promise},
	}
	if strings.HasPrefix(contentType, "image/") {
		request.CutPlan = &pb.CutPlan{Maker: pb.CutMaker_CUT_MAKER_SERVER} // Go needs no image library
	}
	reply, err := client.Call(ctx, client.CallLimit, connection.Uploads.RequestUpload, request)
	if err != nil {
		return nil, err
	}
	uploadID := reply.Upload.UploadId

	// A watch beside the work: here it only prints. A web page would follow it from another process.
	watched := make(chan error, 1)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() {
		watched <- connection.Watch(ctx, uploadID, 0, func(event *pb.StatusEvent) {
			fmt.Printf("%d %s\n", event.Upload.Revision, event.Upload.Status)
		})
	}()

	for _, target := range reply.WriteTargets {
		if err := put(ctx, connection, request, target, path); err != nil {
			return nil, err
		}
	}
	completed, err := client.Call(ctx, client.CompleteLimit, connection.Uploads.CompleteUpload,
		&pb.CompleteUploadRequest{UploadId: uploadID})
	if err != nil {
		return nil, err
	}
	if err := <-watched; err != nil {
		return nil, err
	}
	if completed.Asset == nil { // a failed upload is data, not a failed call
		return nil, fmt.Errorf("the upload ended %s: %s", completed.Upload.Status, completed.Upload.GetFailure().GetMessage())
	}
	return completed.Asset, nil
}

// put sends the file, once more with a fresh signature when the first ran out meanwhile.
func put(
	ctx context.Context, connection *client.Client, request *pb.RequestUploadRequest, target *pb.WriteTarget, path string,
) error {
	single := target.GetSinglePut()
	if single == nil {
		return fmt.Errorf("%s is too large for this example: it does not send parts", target.Variant)
	}
	err := connection.Put(ctx, single, path)
	var refused *client.StoreRefused
	if !errors.As(err, &refused) || !refused.Stale() {
		return err
	}
	// The same request id: the same upload, signed again.
	renewed, err := client.Call(ctx, client.CallLimit, connection.Uploads.RequestUpload, request)
	if err != nil {
		return err
	}
	for _, fresh := range renewed.WriteTargets {
		if fresh.Variant == target.Variant {
			return connection.Put(ctx, fresh.GetSinglePut(), path)
		}
	}
	return refused
}

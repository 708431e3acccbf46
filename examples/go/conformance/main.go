// Command conformance puts package client through the script in tests/conformance: a JSON object a line comes in,
// one goes out. tests/conformance/README.md is the protocol.
package main

import (
	"bufio"
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"time"
	"unicode"

	pb "example.com/assetlane/assetlanev1"
	"example.com/assetlane/client"
)

type step struct {
	ID   int    `json:"id"`
	Do   string `json:"do"`
	With with   `json:"with"`
}

// with holds what a step may come with, whatever it is to do.
type with struct {
	UploadID        string   `json:"upload_id"`
	AssetID         string   `json:"asset_id"`
	RequestID       string   `json:"request_id"`
	UID             *string  `json:"uid"`
	IssueToken      bool     `json:"issue_token"`
	Read            []string `json:"read"`
	Write           []string `json:"write"`
	LifetimeS       int64    `json:"lifetime_s"`
	Token           string   `json:"token"`
	File            string   `json:"file"`
	FilePath        string   `json:"file_path"`
	ContentType     string   `json:"content_type"`
	Partition       string   `json:"partition"`
	ExpirationHours *float64 `json:"expiration_hours"`
	ServerCuts      bool     `json:"server_cuts"`
	AfterRevision   int64    `json:"after_revision"`
	Watch           string   `json:"watch"`
	URL             string   `json:"url"`
}

type result map[string]any

func main() {
	connection, err := client.Dial()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	defer connection.Close()
	player := &player{client: connection, targets: map[string][]*pb.WriteTarget{}, watches: map[string]*watch{}}
	lines := bufio.NewScanner(os.Stdin)
	answers := json.NewEncoder(os.Stdout)
	for lines.Scan() {
		var step step
		if err := json.Unmarshal(lines.Bytes(), &step); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		answer := result{"id": step.ID}
		outcome, err := player.play(context.Background(), step.Do, step.With)
		var refusal *client.Refusal
		switch {
		case errors.As(err, &refusal):
			answer["refused"] = fieldsOf(refusal)
		case err != nil:
			answer["broken"] = err.Error()
		default:
			answer["ok"] = outcome
		}
		if err := answers.Encode(answer); err != nil {
			os.Exit(1)
		}
	}
}

type player struct {
	client  *client.Client
	targets map[string][]*pb.WriteTarget
	watches map[string]*watch
}

func (p *player) play(ctx context.Context, do string, with with) (result, error) {
	switch do {
	case "hello":
		return result{"client": "go"}, nil
	case "request_upload":
		return p.requestUpload(ctx, with)
	case "put":
		return p.put(ctx, with)
	case "create_token":
		token, err := p.createToken(ctx, with)
		return result{"token": tokenOf(token)}, err
	case "use_token":
		device, err := client.DialWithToken(with.Token)
		if err != nil {
			return nil, err
		}
		p.client = device // until the program ends
		return result{}, nil
	case "complete_upload":
		reply, err := client.Call(ctx, client.CompleteLimit, p.client.Uploads.CompleteUpload,
			&pb.CompleteUploadRequest{UploadId: with.UploadID})
		if err != nil {
			return nil, err
		}
		return result{"upload": uploadOf(reply.Upload), "asset": assetOf(reply.Asset)}, nil
	case "get_upload":
		reply, err := client.Call(ctx, client.CallLimit, p.client.Uploads.GetUpload,
			&pb.GetUploadRequest{UploadId: with.UploadID})
		return result{"upload": uploadOf(reply.GetUpload())}, err
	case "cancel_upload":
		reply, err := client.Call(ctx, client.CallLimit, p.client.Uploads.CancelUpload,
			&pb.CancelUploadRequest{UploadId: with.UploadID})
		return result{"upload": uploadOf(reply.GetUpload())}, err
	case "start_watch":
		return p.startWatch(ctx, with)
	case "finish_watch":
		return p.watches[with.Watch].finish()
	case "read":
		return p.read(ctx, with)
	case "get_asset":
		reply, err := client.Call(ctx, client.CallLimit, p.client.Assets.GetAsset,
			&pb.GetAssetRequest{AssetId: with.AssetID})
		return result{"asset": assetOf(reply.GetAsset())}, err
	case "refresh_asset":
		reply, err := client.Call(ctx, client.CallLimit, p.client.Assets.RefreshAsset,
			&pb.RefreshAssetRequest{AssetId: with.AssetID})
		return result{"asset": assetOf(reply.GetAsset())}, err
	case "delete_asset":
		_, err := client.Call(ctx, client.CallLimit, p.client.Assets.DeleteAsset,
			&pb.DeleteAssetRequest{AssetId: with.AssetID})
		return result{}, err
	}
	return nil, fmt.Errorf("this client does not know how to %q", do)
}

func (p *player) requestUpload(ctx context.Context, with with) (result, error) {
	promise, err := client.Promise(with.File, with.ContentType)
	if err != nil {
		return nil, err
	}
	request := &pb.RequestUploadRequest{
		RequestId:       with.RequestID,
		Uid:             p.uid(with),
		FilePath:        with.FilePath,
		Partition:       with.Partition,
		ExpirationHours: with.ExpirationHours,
		Variants:        []*pb.VariantPromise{promise},
	}
	if with.ServerCuts {
		request.CutPlan = &pb.CutPlan{Maker: pb.CutMaker_CUT_MAKER_SERVER}
	}
	if with.IssueToken {
		request.IssueToken = &pb.TokenOptions{}
	}
	reply, err := client.Call(ctx, client.CallLimit, p.client.Uploads.RequestUpload, request)
	if err != nil {
		return nil, err
	}
	p.targets[reply.Upload.UploadId] = reply.WriteTargets
	variants := []string{}
	for _, target := range reply.WriteTargets {
		variants = append(variants, target.Variant)
	}
	return result{"upload": uploadOf(reply.Upload), "targets": variants, "token": tokenOf(reply.Token)}, nil
}

func (p *player) createToken(ctx context.Context, with with) (*pb.ScopedToken, error) {
	lifetime := time.Duration(with.LifetimeS) * time.Second
	if with.UploadID != "" {
		return p.client.TokenForUpload(ctx, with.UploadID, lifetime)
	}
	scope := &pb.PartitionScope{Read: with.Read, Write: with.Write}
	return p.client.TokenForPartitions(ctx, p.uid(with), scope, lifetime)
}

func (p *player) uid(with with) string {
	if with.UID != nil {
		return *with.UID
	}
	return p.client.UID
}

func (p *player) put(ctx context.Context, with with) (result, error) {
	for _, target := range p.targets[with.UploadID] {
		err := p.client.Put(ctx, target.GetSinglePut(), with.File)
		var refused *client.StoreRefused
		if errors.As(err, &refused) {
			return result{"stored": false}, nil
		}
		if err != nil {
			return nil, err
		}
	}
	return result{"stored": true}, nil
}

func (p *player) read(ctx context.Context, with with) (result, error) {
	content, err := p.client.Read(ctx, with.URL)
	var refused *client.StoreRefused
	if errors.As(err, &refused) {
		return result{"http_status": refused.Status}, nil
	}
	return result{
		"http_status": 200, "size_bytes": content.SizeBytes, "sha256": hex.EncodeToString(content.SHA256),
	}, err
}

// watch is one that goes on while other steps are played.
type watch struct {
	lock   sync.Mutex
	events []result
	first  chan struct{}
	err    error
	over   chan struct{}
}

func (p *player) startWatch(ctx context.Context, with with) (result, error) {
	w := &watch{events: []result{}, first: make(chan struct{}), over: make(chan struct{})}
	p.watches[with.Watch] = w
	go func() {
		defer close(w.over)
		once := sync.OnceFunc(func() { close(w.first) })
		w.err = p.client.Watch(ctx, with.UploadID, with.AfterRevision, func(event *pb.StatusEvent) {
			w.lock.Lock()
			defer w.lock.Unlock()
			w.events = append(w.events, result{"revision": event.Upload.Revision, "status": statusOf(event.Upload)})
			once()
		})
	}()
	select {
	case <-w.first:
		return result{}, nil
	case <-w.over:
		return result{}, w.err
	}
}

func (w *watch) finish() (result, error) {
	<-w.over
	return result{"events": w.events}, w.err
}

func statusOf(upload *pb.Upload) string {
	return strings.TrimPrefix(upload.GetStatus().String(), "UPLOAD_STATUS_")
}

func uploadOf(upload *pb.Upload) result {
	history := []string{}
	for _, change := range upload.GetHistory() {
		history = append(history, strings.TrimPrefix(change.Status.String(), "UPLOAD_STATUS_"))
	}
	return result{
		"upload_id": upload.GetUploadId(), "status": statusOf(upload), "revision": upload.GetRevision(),
		"history": history, "failure": upload.GetFailure().GetReason(),
	}
}

func tokenOf(token *pb.ScopedToken) any {
	if token == nil {
		return nil
	}
	return result{"token": token.Token, "expire_unix_s": token.ExpireTime.GetSeconds()}
}

func assetOf(asset *pb.Asset) any {
	if asset == nil {
		return nil
	}
	variants := []result{}
	for _, variant := range asset.Variants {
		variants = append(variants, result{
			"name": variant.Name, "content_type": variant.ContentType, "size_bytes": variant.SizeBytes,
			"sha256": hex.EncodeToString(variant.Sha256), "width_px": variant.WidthPx, "height_px": variant.HeightPx,
			"read_url": variant.ReadUrl, "download_url": variant.DownloadUrl,
		})
	}
	var expires any // null: never
	if asset.ExpireTime != nil {
		expires = asset.ExpireTime.Seconds
	}
	return result{
		"asset_id": asset.AssetId, "partition": asset.Partition, "file_path": asset.FilePath,
		"expire_unix_s": expires, "revision": asset.Revision, "variants": variants,
	}
}

func fieldsOf(refusal *client.Refusal) result {
	fields := []string{}
	for field := range refusal.Fields {
		fields = append(fields, field)
	}
	return result{
		"code": screaming(refusal.Code.String()), "reason": refusal.Reason, "message": refusal.Message,
		"fields": fields, "subjects": refusal.Subjects,
	}
}

// screaming turns Go's names of status codes, such as NotFound, into the canonical NOT_FOUND.
func screaming(name string) string {
	var out strings.Builder
	for i, letter := range name {
		if i > 0 && unicode.IsUpper(letter) {
			out.WriteByte('_')
		}
		out.WriteRune(unicode.ToUpper(letter))
	}
	return out.String()
}

package client

import (
	"fmt"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// Refusal is a call that the server, or the way there, refused.
type Refusal struct {
	Code       codes.Code
	Reason     string            // stable: match on this, never on the message. Empty when no server answered.
	Message    string            // for people
	Fields     map[string]string // of INVALID_ARGUMENT: what is wrong with which field
	Subjects   []string          // of FAILED_PRECONDITION: of VARIANTS_MISSING the variants
	RetryAfter time.Duration     // how long the server asks to wait, 0: it does not say
}

// Error returns a sentence for people.
func (r *Refusal) Error() string { return fmt.Sprintf("%s (%s): %s", r.Code, r.Reason, r.Message) }

// Temporary reports whether the same call may succeed later.
func (r *Refusal) Temporary() bool {
	return r.Code == codes.Unavailable || r.Code == codes.ResourceExhausted && r.RetryAfter > 0
}

// refusalOf reads the details that come in the trailer grpc-status-details-bin; grpc-go unpacks them.
func refusalOf(err error) *Refusal {
	answer := status.Convert(err)
	refusal := &Refusal{Code: answer.Code(), Message: answer.Message()}
	for _, detail := range answer.Details() {
		switch detail := detail.(type) {
		case *errdetails.ErrorInfo:
			refusal.Reason = detail.Reason
		case *errdetails.BadRequest:
			refusal.Fields = make(map[string]string)
			for _, violation := range detail.FieldViolations {
				refusal.Fields[violation.Field] = violation.Description
			}
		case *errdetails.PreconditionFailure:
			for _, violation := range detail.Violations {
				refusal.Subjects = append(refusal.Subjects, violation.Subject)
			}
		case *errdetails.RetryInfo:
			refusal.RetryAfter = detail.RetryDelay.AsDuration()
		}
	}
	return refusal
}

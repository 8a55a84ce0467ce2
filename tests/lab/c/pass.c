/* A filter that lets everything through, and clones the OID requests that it passes on. */
#include "ndis_lab.h"

typedef struct { NDIS_HANDLE Handle; ULONG_PTR Lock; NDIS_OID_REQUEST *Clone; } MODULE;
static NDIS_HANDLE Driver;

static NDIS_STATUS Attach(NDIS_HANDLE Handle, NDIS_HANDLE Context, PVOID Parameters)
{
    NDIS_FILTER_ATTRIBUTES Attributes = { { 0x8D, 1, 8 }, 0 };
    MODULE *Module = ExAllocatePool2(POOL_FLAG_NON_PAGED, sizeof(*Module), TAG);
    if (!Module)
        return NDIS_STATUS_RESOURCES;
    Module->Handle = Handle;
    return NdisFSetAttributes(Handle, Module, &Attributes);
}

static void Detach(MODULE *Module) { ExFreePoolWithTag(Module, TAG); }

static NDIS_STATUS Restart(MODULE *Module, PVOID Parameters) { return NDIS_STATUS_SUCCESS; }

static NDIS_STATUS Pause(MODULE *Module, PVOID Parameters) { return NDIS_STATUS_SUCCESS; }

static void Send(MODULE *Module, NET_BUFFER_LIST *Lists, ULONG Port, ULONG Flags)
{
#if FAULT == 4 /* It looks at a list after it was sent. */
    NdisFSendNetBufferLists(Module->Handle, Lists, Port, Flags);
    NdisFSendNetBufferListsComplete(Module->Handle, Lists, 0);
#else
    NdisFSendNetBufferLists(Module->Handle, Lists, Port, Flags);
#endif
}

static void SendComplete(MODULE *Module, NET_BUFFER_LIST *Lists, ULONG Flags)
{
    NdisFSendNetBufferListsComplete(Module->Handle, Lists, Flags);
}

static void CancelSend(MODULE *Module, PVOID Id) { NdisFCancelSendNetBufferLists(Module->Handle, Id); }

static void Receive(MODULE *Module, NET_BUFFER_LIST *Lists, ULONG Port, ULONG Count, ULONG Flags)
{
    NdisFIndicateReceiveNetBufferLists(Module->Handle, Lists, Port, Count, Flags);
#if FAULT == 3 /* Lists that were lent go back by return, not by call. */
    if (Flags & NDIS_RECEIVE_FLAGS_RESOURCES)
        NdisFReturnNetBufferLists(Module->Handle, Lists, 0);
#endif
}

static void Return(MODULE *Module, NET_BUFFER_LIST *Lists, ULONG Flags)
{
    NdisFReturnNetBufferLists(Module->Handle, Lists, Flags);
}

static void Finish(MODULE *Module, NDIS_OID_REQUEST *Clone, NDIS_OID_REQUEST *Original)
{
    Original->Data.BytesWritten = Clone->Data.BytesWritten;
    Original->Data.BytesNeeded = Clone->Data.BytesNeeded;
    NdisFreeCloneOidRequest(Module->Handle, Clone);
}

static NDIS_STATUS OidRequest(MODULE *Module, NDIS_OID_REQUEST *Request)
{
    NDIS_OID_REQUEST *Clone;
    KIRQL Irql;
#if FAULT == 2 /* The request itself goes down. */
    return NdisFOidRequest(Module->Handle, Request);
#endif
    NDIS_STATUS Status = NdisAllocateCloneOidRequest(Module->Handle, Request, TAG, &Clone);
    if (Status != NDIS_STATUS_SUCCESS)
        return Status;
    Clone->SourceReserved[0] = Request;
    Irql = KeAcquireSpinLockRaiseToDpc(&Module->Lock);
    Module->Clone = Clone;
    KeReleaseSpinLock(&Module->Lock, Irql);
    Status = NdisFOidRequest(Module->Handle, Clone);
    if (Status == NDIS_STATUS_PENDING)
        return Status;
    Irql = KeAcquireSpinLockRaiseToDpc(&Module->Lock);
    Module->Clone = 0;
    KeReleaseSpinLock(&Module->Lock, Irql);
    Finish(Module, Clone, Request);
    return Status;
}

static void OidRequestComplete(MODULE *Module, NDIS_OID_REQUEST *Clone, NDIS_STATUS Status)
{
    NDIS_OID_REQUEST *Original = Clone->SourceReserved[0];
    KIRQL Irql = KeAcquireSpinLockRaiseToDpc(&Module->Lock);
    Module->Clone = 0;
    KeReleaseSpinLock(&Module->Lock, Irql);
    Finish(Module, Clone, Original);
#if FAULT != 1 /* The answer never reaches who asked. */
    NdisFOidRequestComplete(Module->Handle, Original, Status);
#endif
}

static void CancelOidRequest(MODULE *Module, PVOID Id)
{
    KIRQL Irql = KeAcquireSpinLockRaiseToDpc(&Module->Lock);
    int Mine = Module->Clone && Module->Clone->RequestId == Id;
    KeReleaseSpinLock(&Module->Lock, Irql);
    if (Mine)
        NdisFCancelOidRequest(Module->Handle, Id);
}

static void Status(MODULE *Module, PVOID Indication) { NdisFIndicateStatus(Module->Handle, Indication); }

static void Unload(DRIVER_OBJECT *Object) { NdisFDeregisterFilterDriver(Driver); }

NTSTATUS DriverEntry(DRIVER_OBJECT *Object, UNICODE_STRING *Path)
{
    static const WCHAR Name[] = L"cpass";
    NDIS_FILTER_DRIVER_CHARACTERISTICS Characteristics = {
        .Header = { 0x8B, 2, 0xE0 }, .MajorNdisVersion = 6, .MinorNdisVersion = 30,
        .FriendlyName = STRING(Name), .UniqueName = STRING(Name), .ServiceName = STRING(Name),
        .Attach = Attach, .Detach = Detach, .Restart = Restart, .Pause = Pause, .Send = Send,
        .SendComplete = SendComplete, .CancelSend = CancelSend, .Receive = Receive, .Return = Return,
        .OidRequest = OidRequest, .OidRequestComplete = OidRequestComplete, .CancelOidRequest = CancelOidRequest,
        .Status = Status,
    };
    Object->DriverUnload = Unload;
    return NdisFRegisterFilterDriver(Object, Object, &Characteristics, &Driver);
}

/* A filter that sends a frame of its own every hundred microseconds while it runs. */
#include "ndis_lab.h"

#define FRAME 60
typedef struct {
    NDIS_HANDLE Handle, Pool, Timer;
    ULONG_PTR Lock;
    LONG Out;
    BOOLEAN Running, Pausing;
} MODULE;
static NDIS_HANDLE Driver;

/* One of the module's own lists, with its memory, has come back or was never sent. */
static __attribute__((unused)) void Free(NET_BUFFER_LIST *List)
{
    PVOID Memory = List->ProtocolReserved[0];
    MDL *Mdl = List->ProtocolReserved[1];
    NdisFreeNetBufferList(List);
    NdisFreeMdl(Mdl);
    ExFreePoolWithTag(Memory, TAG);
}

/* A count goes back; whoever takes the last one of a module that is pausing completes the pause. */
static void Leave(MODULE *Module)
{
    BOOLEAN Last;
#if FAULT == 4 /* The count and the question are apart from each other. */
    LONG Left = --Module->Out;
    KIRQL Irql = KeAcquireSpinLockRaiseToDpc(&Module->Lock);
    Last = Left == 0 && Module->Pausing;
    KeReleaseSpinLock(&Module->Lock, Irql);
#else
    KIRQL Irql = KeAcquireSpinLockRaiseToDpc(&Module->Lock);
    Last = --Module->Out == 0 && Module->Pausing;
    if (Last)
        Module->Pausing = 0;
    KeReleaseSpinLock(&Module->Lock, Irql);
#endif
    if (Last)
        NdisFPauseComplete(Module->Handle);
}

static void Elapsed(PVOID Unused, MODULE *Module, PVOID First, PVOID Second)
{
    NET_BUFFER_LIST *List = 0;
    MDL *Mdl = 0;
    UCHAR *Memory;
    BOOLEAN Runs;
    KIRQL Irql = KeAcquireSpinLockRaiseToDpc(&Module->Lock);
    Runs = Module->Running;
    if (Runs)
        Module->Out++;
    KeReleaseSpinLock(&Module->Lock, Irql);
    if (!Runs)
        return;
    Memory = ExAllocatePool2(POOL_FLAG_NON_PAGED, FRAME, TAG);
    if (Memory)
        Mdl = NdisAllocateMdl(Module->Handle, Memory, FRAME);
    if (Mdl)
        List = NdisAllocateNetBufferAndNetBufferList(Module->Pool, 0, 0, Mdl, 0, FRAME);
    if (!List) {
        if (Mdl)
            NdisFreeMdl(Mdl);
        if (Memory)
            ExFreePoolWithTag(Memory, TAG);
        Leave(Module);
        return;
    }
    Memory[12] = 0x88;
    Memory[13] = 0xB5;
    Memory[14] = 0xCC;
    List->ProtocolReserved[0] = Memory;
    List->ProtocolReserved[1] = Mdl;
    List->SourceHandle = Module->Handle;
    NdisSetTimerObject(Module->Timer, -1000, 0, Module);
    NdisFSendNetBufferLists(Module->Handle, List, 0, NDIS_SEND_FLAGS_DISPATCH_LEVEL);
#if FAULT == 2 /* The frame's memory is gone while the adapter reads it. */
    ExFreePoolWithTag(Memory, TAG);
#endif
}

static NDIS_STATUS Attach(NDIS_HANDLE Handle, NDIS_HANDLE Context, PVOID Parameters)
{
    NDIS_FILTER_ATTRIBUTES Attributes = { { 0x8D, 1, 8 }, 0 };
    NET_BUFFER_LIST_POOL_PARAMETERS Lists = { { 0x80, 1, 0x10 }, 0, 1, 0, TAG, 0 };
    NDIS_TIMER_CHARACTERISTICS Timer = { { 0x97, 1, 0x18 }, TAG, Elapsed, 0 };
    MODULE *Module = ExAllocatePool2(POOL_FLAG_NON_PAGED, sizeof(*Module), TAG);
    if (!Module)
        return NDIS_STATUS_RESOURCES;
    Module->Handle = Handle;
    Timer.FunctionContext = Module;
    Module->Pool = NdisAllocateNetBufferListPool(Handle, &Lists);
    if (!Module->Pool || NdisAllocateTimerObject(Handle, &Timer, &Module->Timer)) {
        if (Module->Pool)
            NdisFreeNetBufferListPool(Module->Pool);
        ExFreePoolWithTag(Module, TAG);
        return NDIS_STATUS_RESOURCES;
    }
    return NdisFSetAttributes(Handle, Module, &Attributes);
}

static void Detach(MODULE *Module)
{
    NdisFreeTimerObject(Module->Timer);
    NdisFreeNetBufferListPool(Module->Pool);
    ExFreePoolWithTag(Module, TAG);
}

static NDIS_STATUS Restart(MODULE *Module, PVOID Parameters)
{
    KIRQL Irql = KeAcquireSpinLockRaiseToDpc(&Module->Lock);
    Module->Running = 1;
    KeReleaseSpinLock(&Module->Lock, Irql);
    NdisSetTimerObject(Module->Timer, -1000, 0, Module);
    return NDIS_STATUS_SUCCESS;
}

static NDIS_STATUS Pause(MODULE *Module, PVOID Parameters)
{
    LONG Out;
    KIRQL Irql = KeAcquireSpinLockRaiseToDpc(&Module->Lock);
    Module->Running = 0;
    KeReleaseSpinLock(&Module->Lock, Irql);
    /* A routine that runs now may set the timer once more. */
    NdisCancelTimerObject(Module->Timer);
    KeFlushQueuedDpcs();
    NdisCancelTimerObject(Module->Timer);
    Irql = KeAcquireSpinLockRaiseToDpc(&Module->Lock);
    Out = Module->Out;
    Module->Pausing = Out != 0;
    KeReleaseSpinLock(&Module->Lock, Irql);
#if FAULT == 1 /* What is still out is not waited for. */
    return NDIS_STATUS_SUCCESS;
#endif
    return Out ? NDIS_STATUS_PENDING : NDIS_STATUS_SUCCESS;
}

static void Send(MODULE *Module, NET_BUFFER_LIST *Lists, ULONG Port, ULONG Flags)
{
    NdisFSendNetBufferLists(Module->Handle, Lists, Port, Flags);
}

static void SendComplete(MODULE *Module, NET_BUFFER_LIST *Lists, ULONG Flags)
{
    while (Lists) {
        NET_BUFFER_LIST *List = Lists;
        Lists = List->Next;
        List->Next = 0;
#if FAULT != 3 /* Own lists go up like those of others. */
        if (List->SourceHandle == Module->Handle) {
#if FAULT == 2
            NdisFreeMdl(List->ProtocolReserved[1]);
            NdisFreeNetBufferList(List);
#else
            Free(List);
#endif
            Leave(Module);
            continue;
        }
#endif
        NdisFSendNetBufferListsComplete(Module->Handle, List, Flags);
    }
}

static void CancelSend(MODULE *Module, PVOID Id) { NdisFCancelSendNetBufferLists(Module->Handle, Id); }

static void Unload(DRIVER_OBJECT *Object)
{
    NdisFDeregisterFilterDriver(Driver);
    /* A DPC that completed the last pause may still be returning. */
    KeFlushQueuedDpcs();
}

NTSTATUS DriverEntry(DRIVER_OBJECT *Object, UNICODE_STRING *Path)
{
    static const WCHAR Name[] = L"coriginate";
    NDIS_FILTER_DRIVER_CHARACTERISTICS Characteristics = {
        .Header = { 0x8B, 2, 0xE0 }, .MajorNdisVersion = 6, .MinorNdisVersion = 30,
        .FriendlyName = STRING(Name), .UniqueName = STRING(Name), .ServiceName = STRING(Name),
        .Attach = Attach, .Detach = Detach, .Restart = Restart, .Pause = Pause, .Send = Send,
        .SendComplete = SendComplete, .CancelSend = CancelSend,
    };
    Object->DriverUnload = Unload;
    return NdisFRegisterFilterDriver(Object, Object, &Characteristics, &Driver);
}

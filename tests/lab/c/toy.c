/* A device with two requests that must not interleave four times: it stops the system when they do.
 *
 * Each request is a few steps with calls into the kernel between them. Only with three preemptions, each at the
 * right call, do the steps of both take turns. Another request counts without interlocked operations. */
#include "ndis_lab.h"

#define FIRST 0x222000
#define SECOND 0x222004
#define COUNT 0x222008
#define READ 0x22200C
static PVOID Device;
static volatile LONG Phase;
static volatile LONG Counter;
static UNICODE_STRING Name = STRING(L"\\Device\\Toy"), Link = STRING(L"\\DosDevices\\Toy");

static void Look(void) { KeQueryPerformanceCounter(0); }

static NTSTATUS Control(PVOID Object, IRP *Irp)
{
    ULONG Code = *(ULONG *)(Irp->StackLocation + 0x18);
    ULONG_PTR Information = 0;
    if (Code == FIRST) {
        if (Phase == 0)
            Phase = 1;
        Look();
        if (Phase == 2)
            Phase = 3;
        Look();
        if (Phase == 3)
            Phase = 0;
    } else if (Code == SECOND) {
        if (Phase == 1)
            Phase = 2;
        Look();
        if (Phase == 3)
            KeBugCheckEx(0xDEAD, Phase, 0, 0, 0);
    } else if (Code == COUNT) {
        for (int i = 0; i < 10000000; i++)
            Counter++;
    } else if (Code == READ) {
        **(LONG **)((UCHAR *)Irp + 0x18) = Counter;
        Information = 4;
    }
    Irp->Status = STATUS_SUCCESS;
    Irp->Information = Information;
    IofCompleteRequest(Irp, 0);
    return STATUS_SUCCESS;
}

static NTSTATUS Done(PVOID Object, IRP *Irp)
{
    Irp->Status = STATUS_SUCCESS;
    Irp->Information = 0;
    IofCompleteRequest(Irp, 0);
    return STATUS_SUCCESS;
}

static void Unload(DRIVER_OBJECT *Object)
{
    IoDeleteSymbolicLink(&Link);
    IoDeleteDevice(Device);
}

NTSTATUS DriverEntry(DRIVER_OBJECT *Object, UNICODE_STRING *Path)
{
    NTSTATUS Status = IoCreateDevice(Object, 0, &Name, 0x22, 0, 0, &Device);
    if (Status)
        return Status;
    Object->MajorFunction[0] = Object->MajorFunction[2] = Object->MajorFunction[0x12] = Done;
    Object->MajorFunction[0x0E] = Control;
    Object->DriverUnload = Unload;
    return IoCreateSymbolicLink(&Link, &Name);
}
